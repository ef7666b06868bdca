/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page server's side of the push protocol, with this process as a task, a forked child of it as another, and clients
 * that say anything: SEED. Every page that comes is one of the lazy ones, and right; nothing else ever comes; no client,
 * however wrong, stops the next. What both tasks have comes once, to a client that understands that.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "wire/compression.h"
#include "push_images.h"
#include "source/push_server.h"
#include "tcp.h"
#include "task/proc_pagemap.h"

enum { ID = 4711, CHILD_ID = 4712, PAGES = 128, CLIENTS = 150, MESSAGES = 48, STREAMS = 2 };

struct told {
	_Atomic unsigned int begun, missing, done, ended, lost;
};

static uint8_t *memory, *childs_memory; /* its contents, here */
static struct cl_push_server *server;

static void tell(void *context, enum cl_push_told what, const char *name, uint64_t client)
{
	struct told *told = context;

	CHECK((what == CL_PUSH_TOLD_BEGUN) == (name != NULL) && client);
	(*(_Atomic unsigned int *[]){ &told->begun, &told->missing, &told->done, &told->ended, &told->lost }[what])++;
}

static atomic_bool escaped;

static bool is_frozen(void *context)
{
	(void)context;
	return !escaped;
}

struct call {
	int fd;
	struct cl_push_hello hello;
	pthread_t thread;
};

static void *serve(void *argument)
{
	struct call *call = argument;

	cl_push_server_serve(server, (struct cl_conn){ .fd = call->fd }, &call->hello, "test");
	close(call->fd);
	return NULL;
}

/* A connection to the server, with the hello said. Ours. */
static int call_server(struct call *call)
{
	int pair[2];

	if (!call->hello.client)
		call->hello.client = CL_PUSH_UNNAMED;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	call->fd = pair[1];
	CHECK(pthread_create(&call->thread, NULL, serve, call) == 0);
	return pair[0];
}

static _Atomic uint64_t came[CL_PACKING_WAYS]; /* messages with pages, each way */

static bool receive(int fd, void *data, size_t bytes)
{
	return recv(fd, data, bytes, MSG_WAITALL) == (ssize_t)bytes;
}

static uint64_t number_of_page(const struct cl_push_header *header)
{
	uint64_t page = (header->vaddr - (uintptr_t)memory) / CL_PAGE_SIZE;

	CHECK((header->dst_id == ID || header->dst_id == CHILD_ID) && header->vaddr >= (uintptr_t)memory);
	CHECK(page + header->nr_pages <= PAGES && page % 8 + header->nr_pages <= 7); /* lazy ones */
	return page;
}

struct stream {
	int fd;
	bool shares;          /* ALSO may come */
	unsigned int unpacks; /* ways that may come */
	uint64_t also_pages;  /* that came with other tasks' */
};

/* All that comes, until the end. How many pages, but for those that came with others. */
static uint64_t check_answers(struct stream *stream)
{
	static const uint8_t zeroes[CL_PAGE_SIZE];
	uint8_t raw[CL_PUSH_HEADER_BYTES], *data = malloc(CL_PUSH_MAX_PAGES * CL_PAGE_SIZE);
	uint8_t *unpacked = malloc(CL_PUSH_PACKED_PAGES * CL_PAGE_SIZE);
	struct cl_push_header header, also = { 0 };
	struct cl_packer packer = { 0 };
	enum cl_packing_way way;
	uint64_t pages = 0;
	int fd = stream->fd;

	while (receive(fd, raw, sizeof(raw))) {
		const uint8_t *got = data, *wanted;
		uint64_t page;

		CHECK(cl_push_unpack(raw, &header) == 0);
		if (header.type == CL_PUSH_CLOSED)
			continue;
		page = number_of_page(&header);
		if (header.type == CL_PUSH_ALSO) {
			CHECK(stream->shares && !also.nr_pages); /* there is one other task */
			also = header;
			continue;
		}
		way = cl_push_way(header.type);
		CHECK(header.type == CL_PUSH_PAGES || header.type == CL_PUSH_ZERO || stream->unpacks & 1U << way);
		came[way]++;
		wanted = (header.dst_id == ID ? memory : childs_memory) + page * CL_PAGE_SIZE;
		if (also.nr_pages) {
			CHECK(header.type != CL_PUSH_ZERO && also.nr_pages == header.nr_pages &&
			      also.vaddr == header.vaddr && also.dst_id != header.dst_id);
			CHECK(memcmp(memory + page * CL_PAGE_SIZE, childs_memory + page * CL_PAGE_SIZE,
				     header.nr_pages * CL_PAGE_SIZE) == 0);
			stream->also_pages += also.nr_pages;
			also.nr_pages = 0;
		}
		if (!receive(fd, data, header.bytes))
			break;
		if (way != CL_AS_IT_IS) {
			CHECK(cl_compression_unpack(&packer, way, data, header.bytes, unpacked,
						    header.nr_pages * CL_PAGE_SIZE) == 0);
			got = unpacked;
		}
		for (uint64_t i = 0; i < header.nr_pages; i++)
			CHECK(memcmp(header.type == CL_PUSH_ZERO ? zeroes : got + i * CL_PAGE_SIZE,
				     wanted + i * CL_PAGE_SIZE, CL_PAGE_SIZE) == 0);
		pages += header.nr_pages;
	}
	free(data);
	free(unpacked);
	cl_packer_free(&packer);
	return pages;
}

/* What a client may say, most of the time. */
static void say_something(uint64_t *random, uint8_t *out)
{
	static const uint16_t types[] = { CL_PUSH_GET, CL_PUSH_GET, CL_PUSH_MISSING, CL_PUSH_MISSING, CL_PUSH_GO };
	uint64_t page = next_random(random) % PAGES, nr = 1 + next_random(random) % 7;
	struct cl_push_header header = { .type = types[next_random(random) % 5] };

	if (next_random(random) % 16 == 0)
		header.type = CL_PUSH_DONE;
	if (header.type == CL_PUSH_GET || header.type == CL_PUSH_MISSING) {
		if (next_random(random) % 64) /* all of it lazy */
			nr = page % 8 == 7 ? (page--, 1) : 1 + nr % (7 - page % 8);
		header.vaddr = (uintptr_t)memory + page * CL_PAGE_SIZE;
		header.nr_pages = nr;
		header.dst_id = next_random(random) % 2 ? ID : CHILD_ID;
	}
	cl_push_pack(&header, out);
	if (next_random(random) % 64 == 0)
		out[next_random(random) % CL_PUSH_HEADER_BYTES] ^= (uint8_t)(1 << next_random(random) % 8);
}

static uint64_t one_client(uint64_t *random)
{
	static const unsigned int ways[] = { 0, 1U << CL_LZ4, 1U << CL_ZSTD, 1U << CL_LZ4 | 1U << CL_ZSTD };
	struct call demand = { .hello = { .nr_streams = STREAMS,
					  .unpacks = ways[next_random(random) % 4],
					  .shares = next_random(random) % 2 } };
	struct call streams[STREAMS];
	uint8_t raw[CL_PUSH_ANSWER_BYTES], said[MESSAGES * CL_PUSH_HEADER_BYTES];
	bool forged = next_random(random) % 8 == 0;
	int fd = call_server(&demand), fds[STREAMS];
	struct cl_push_answer answer;
	uint64_t pages = 0, pushed;

	CHECK(receive(fd, raw, sizeof(raw)) && cl_push_unpack_answer(raw, &answer) == 0);
	CHECK(answer.nr_streams == STREAMS);
	for (unsigned int i = 0; i < STREAMS; i++) {
		streams[i] = (struct call){ .hello = { .stream = i + 1 } };
		memcpy(streams[i].hello.token, answer.token, sizeof(answer.token));
		streams[i].hello.token[i] ^= forged;
		fds[i] = call_server(&streams[i]);
		CHECK(receive(fds[i], raw, sizeof(raw)) != forged);
	}
	for (unsigned int i = 0; i < MESSAGES; i++)
		say_something(random, said + i * CL_PUSH_HEADER_BYTES);
	(void)send(fd, said, sizeof(said) - next_random(random) % 40, MSG_NOSIGNAL);
	shutdown(fd, SHUT_WR);
	pages = check_answers(&(struct stream){ .fd = fd });
	for (unsigned int i = 0; i < STREAMS; i++) {
		pushed = check_answers(
			&(struct stream){ .fd = fds[i], .shares = demand.hello.shares, .unpacks = demand.hello.unpacks });
		CHECK(!forged || !pushed);
		pages += pushed;
		pthread_join(streams[i].thread, NULL);
		close(fds[i]);
	}
	pthread_join(demand.thread, NULL);
	close(fd);
	return pages;
}

static void *read_stream(void *argument)
{
	return (void *)(uintptr_t)check_answers(argument);
}

/* A client that does everything right gets every lazy page, by pushing alone; what both tasks have once, if it can. */
static void a_good_client(bool shares)
{
	struct call demand = { .hello = { .nr_streams = 1, .unpacks = cl_compression_ways(), .shares = shares } };
	struct call stream = { .hello = { .stream = 1 } };
	struct stream from = { .shares = shares, .unpacks = cl_compression_ways() };
	uint8_t raw[CL_PUSH_ANSWER_BYTES], out[CL_PUSH_HEADER_BYTES];
	struct cl_push_answer answer;
	struct cl_push_header message;
	struct cl_push_server_info info;
	int fd = call_server(&demand);
	pthread_t reader;
	uint64_t before, also_before, both = 0;
	void *pages;

	cl_push_server_info(server, &info);
	before = info.pushed_pages;
	also_before = info.also_pages;
	CHECK(receive(fd, raw, sizeof(raw)) && cl_push_unpack_answer(raw, &answer) == 0);
	memcpy(stream.hello.token, answer.token, sizeof(answer.token));
	from.fd = call_server(&stream);
	CHECK(receive(from.fd, raw, sizeof(raw)));
	CHECK(pthread_create(&reader, NULL, read_stream, &from) == 0);
	for (uint64_t page = 0; page < 2 * PAGES; page += 8) {
		message = (struct cl_push_header){ .type = CL_PUSH_MISSING,
						   .nr_pages = 7,
						   .dst_id = page < PAGES ? ID : CHILD_ID,
						   .vaddr = (uintptr_t)memory + page % PAGES * CL_PAGE_SIZE };
		cl_push_pack(&message, out);
		CHECK(send(fd, out, sizeof(out), MSG_NOSIGNAL) == sizeof(out));
	}
	message = (struct cl_push_header){ .type = CL_PUSH_GO };
	cl_push_pack(&message, out);
	CHECK(send(fd, out, sizeof(out), MSG_NOSIGNAL) == sizeof(out));
	for (uint64_t page = 0; page < PAGES; page++) /* not zero, and not written by the child: main() */
		both += page % 8 < 7 && page % 4 && page % 5;
	while (info.pushed_pages + info.also_pages - before - also_before < PAGES / 8 * 7 * 2) {
		usleep(1000);
		cl_push_server_info(server, &info);
	}
	message.type = CL_PUSH_DONE;
	cl_push_pack(&message, out);
	CHECK(send(fd, out, sizeof(out), MSG_NOSIGNAL) == sizeof(out));
	CHECK(receive(fd, out, sizeof(out)) && cl_push_unpack(out, &message) == 0 && message.type == CL_PUSH_CLOSED);
	cl_push_server_end(server, CL_PUSH_END_SESSION);
	pthread_join(reader, &pages);
	if (from.also_pages != (shares ? both : 0))
		fprintf(stderr, "%llu pages came for both tasks\n", (unsigned long long)from.also_pages);
	CHECK((uintptr_t)pages + from.also_pages == PAGES / 8 * 7 * 2);
	CHECK(from.also_pages == (shares ? both : 0) && info.also_pages - also_before == from.also_pages);
	pthread_join(demand.thread, NULL);
	pthread_join(stream.thread, NULL);
	close(fd);
	close(from.fd);
}

/*
 * A page that has left for the client is not sent again to who only waits for it. But who has dropped it, as nobody missed it
 * when it came, and says that it is missing since, gets it.
 */
static void a_page_that_was_dropped_comes_again(const struct cl_push_server_config *config)
{
	struct call demand = { .hello = { .nr_streams = 1 } }, stream = { .hello = { .stream = 1 } };
	struct cl_push_header message = { .nr_pages = 7, .dst_id = ID, .vaddr = (uintptr_t)memory };
	const struct timeval patience = { .tv_sec = 10 };
	uint8_t raw[CL_PUSH_ANSWER_BYTES], out[2 * CL_PUSH_HEADER_BYTES], page[CL_PAGE_SIZE];
	struct cl_push_answer answer;
	struct cl_push_server_info info;
	struct cl_error error;
	int fd, ends[2];

	CHECK(cl_push_server_new(config, &server, &error) == 0);
	fd = call_server(&demand);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
	CHECK(receive(fd, raw, sizeof(raw)) && cl_push_unpack_answer(raw, &answer) == 0);
	memcpy(stream.hello.token, answer.token, sizeof(answer.token));
	stream.hello.client = CL_PUSH_UNNAMED;
	connect_tcp(ends);
	stream.fd = ends[1];
	CHECK(pthread_create(&stream.thread, NULL, serve, &stream) == 0);
	CHECK(receive(ends[0], raw, sizeof(raw)));
	message.type = CL_PUSH_MISSING;
	cl_push_pack(&message, out);
	cl_push_pack(&(struct cl_push_header){ .type = CL_PUSH_GO }, out + CL_PUSH_HEADER_BYTES);
	CHECK(send(fd, out, sizeof(out), MSG_NOSIGNAL) == sizeof(out));
	do
		cl_push_server_info(server, &info);
	while (info.pushed_pages < 7);

	message.nr_pages = 1;
	message.vaddr += CL_PAGE_SIZE; /* which isn't zero */
	cl_push_pack(&message, out);
	message.type = CL_PUSH_GET;
	cl_push_pack(&message, out + CL_PUSH_HEADER_BYTES);
	CHECK(send(fd, out + CL_PUSH_HEADER_BYTES, CL_PUSH_HEADER_BYTES, MSG_NOSIGNAL) == CL_PUSH_HEADER_BYTES);
	do
		cl_push_server_info(server, &info);
	while (!info.left_pages);
	CHECK(send(fd, out, sizeof(out), MSG_NOSIGNAL) == sizeof(out));
	CHECK(receive(fd, out, CL_PUSH_HEADER_BYTES) && receive(fd, page, sizeof(page)));
	CHECK(cl_push_unpack(out, &message) == 0 && message.type == CL_PUSH_PAGES);
	CHECK(memcmp(page, memory + CL_PAGE_SIZE, CL_PAGE_SIZE) == 0);
	cl_push_server_end(server, CL_PUSH_END_OVER);
	pthread_join(demand.thread, NULL);
	pthread_join(stream.thread, NULL);
	close(fd);
	close(ends[0]);
	cl_push_server_free(server);
}

/* As a page of the child's is: one of five it has written to. */
static void write_as_child(uint8_t *all)
{
	for (uint64_t page = 0; page < PAGES; page += 5)
		all[page * CL_PAGE_SIZE + 77] ^= 0x5a;
}

static pid_t start_child(void)
{
	int ready[2];
	pid_t pid;
	char byte;

	CHECK(pipe(ready) == 0);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		write_as_child(memory);
		if (write(ready[1], "", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	CHECK(read(ready[0], &byte, 1) == 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

/* However often the tasks were read, they still have the same frames, but for what the child wrote to. */
static void check_sharing(const int32_t pids[2])
{
	uint64_t frames[2][PAGES];

	for (unsigned int i = 0; i < 2; i++) {
		int fd = cl_proc_pagemap_open(pids[i]);

		CHECK(fd >= 0 && cl_proc_pagemap_frames(fd, (uintptr_t)memory, frames[i], PAGES, NULL) == 0);
		close(fd);
	}
	for (uint64_t page = 0; page < PAGES; page++)
		CHECK(!(page % 4) || !(page % 5) || (frames[0][page] && frames[0][page] == frames[1][page]));
}

/* The dump has died, and its tasks run on: what is read of them now is not of the dump. */
static void an_escaped_task_gives_no_page(const struct cl_push_server_config *config)
{
	struct call demand = { .hello = { .nr_streams = 1 } }, stream = { .hello = { .stream = 1 } };
	struct cl_push_header message = { .type = CL_PUSH_GET, .nr_pages = 1, .dst_id = ID, .vaddr = (uintptr_t)memory };
	uint8_t raw[CL_PUSH_ANSWER_BYTES], out[3 * CL_PUSH_HEADER_BYTES], page[CL_PAGE_SIZE], byte;
	struct cl_push_answer answer;
	struct cl_error error;
	int fd, stream_fd;

	CHECK(cl_push_server_new(config, &server, &error) == 0);
	fd = call_server(&demand);
	CHECK(receive(fd, raw, sizeof(raw)) && cl_push_unpack_answer(raw, &answer) == 0);
	memcpy(stream.hello.token, answer.token, sizeof(answer.token));
	stream_fd = call_server(&stream);
	CHECK(receive(stream_fd, raw, sizeof(raw)));
	cl_push_pack(&message, out);
	CHECK(send(fd, out, CL_PUSH_HEADER_BYTES, MSG_NOSIGNAL) == CL_PUSH_HEADER_BYTES);
	CHECK(receive(fd, out, CL_PUSH_HEADER_BYTES) && receive(fd, page, sizeof(page)));

	escaped = true;
	message.type = CL_PUSH_MISSING;
	cl_push_pack(&message, out);
	message = (struct cl_push_header){ .type = CL_PUSH_GO };
	cl_push_pack(&message, out + CL_PUSH_HEADER_BYTES);
	CHECK(send(fd, out, 2 * CL_PUSH_HEADER_BYTES, MSG_NOSIGNAL) == 2 * CL_PUSH_HEADER_BYTES);
	CHECK(recv(stream_fd, &byte, 1, 0) <= 0 && recv(fd, &byte, 1, 0) <= 0);
	/* The task may be held all the same, its memory whole: nobody is told to give up what is missing. */
	CHECK(cl_push_server_admits(server, CL_PUSH_UNNAMED) == CL_PUSH_NOT_NOW);
	pthread_join(demand.thread, NULL);
	pthread_join(stream.thread, NULL);
	close(fd);
	close(stream_fd);

	/* Nor does any other client get one. */
	demand.hello = (struct cl_push_hello){ .nr_streams = 1 };
	fd = call_server(&demand);
	CHECK(recv(fd, &byte, 1, 0) <= 0);
	pthread_join(demand.thread, NULL);
	close(fd);
	cl_push_server_free(server);
}

/* Open a session as this client: whether it is granted, and then the session and its connection are closed again. */
static bool opens(uint64_t client, bool then_go)
{
	struct call call = { .hello = { .nr_streams = 1, .client = client } };
	struct cl_push_header go = { .type = CL_PUSH_GO };
	uint8_t raw[CL_PUSH_ANSWER_BYTES], out[CL_PUSH_HEADER_BYTES];
	struct cl_push_answer answer;
	int fd = call_server(&call);
	bool granted = receive(fd, raw, sizeof(raw)) && cl_push_unpack_answer(raw, &answer) == 0;

	cl_push_pack(&go, out);
	if (granted && then_go)
		CHECK(send(fd, out, sizeof(out), MSG_NOSIGNAL) == sizeof(out));
	shutdown(fd, SHUT_WR);
	pthread_join(call.thread, NULL);
	close(fd);
	return granted;
}

/* Whose tasks run is served again, nobody else; before, whoever comes, but not while another is served. */
static void a_client_keeps_its_place(struct cl_push_server_config config)
{
	struct call first = { .hello = { .nr_streams = 1, .client = 5 } };
	uint8_t raw[CL_PUSH_ANSWER_BYTES];
	struct cl_error error;
	int fd;

	CHECK(cl_push_server_new(&config, &server, &error) == 0);
	CHECK(opens(7, false) && cl_push_server_admits(server, 5) == CL_PUSH_ADMITTED);
	fd = call_server(&first);
	CHECK(receive(fd, raw, sizeof(raw)));
	CHECK(cl_push_server_admits(server, 7) == CL_PUSH_REFUSED_BUSY && !opens(7, false));
	CHECK(cl_push_server_admits(server, CL_PUSH_UNNAMED) == CL_PUSH_REFUSED_BUSY);
	CHECK(cl_push_server_admits(server, 0) == CL_PUSH_REFUSED_BUSY);
	CHECK(opens(5, true)); /* the same one's reconnect, or successor: in its own place */
	pthread_join(first.thread, NULL);
	close(fd);
	CHECK(cl_push_server_admits(server, 7) == CL_PUSH_REFUSED_BUSY && opens(5, false));
	cl_push_server_end(server, CL_PUSH_END_OVER);
	CHECK(cl_push_server_admits(server, 5) == CL_PUSH_REFUSED_OVER && !opens(5, false));
	cl_push_server_free(server);

	config.client = 5; /* as a page server before this one knew */
	CHECK(cl_push_server_new(&config, &server, &error) == 0);
	CHECK(!opens(7, false) && opens(5, false));
	cl_push_server_free(server);
}

/* A task was killed: what is pushed ends, nothing wrong was sent, and the client is sent to the dump. */
static void a_killed_task_ends_pushing(const struct cl_push_server_config *config, pid_t child, const struct told *told)
{
	struct call call = { .hello = { .nr_streams = 1, .client = 5 } };
	struct cl_push_header get = { .type = CL_PUSH_GET, .nr_pages = 1, .dst_id = CHILD_ID, .vaddr = (uintptr_t)memory };
	uint8_t raw[CL_PUSH_ANSWER_BYTES], out[CL_PUSH_HEADER_BYTES], byte;
	struct cl_error error;
	int fd;

	CHECK(cl_push_server_new(config, &server, &error) == 0);
	fd = call_server(&call);
	CHECK(receive(fd, raw, sizeof(raw)));
	CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
	cl_push_pack(&get, out);
	CHECK(send(fd, out, sizeof(out), MSG_NOSIGNAL) == sizeof(out));
	/*
	 * At that very moment the dump is found dead. The other task is not stopped; nor is there one any more, in the end.
	 */
	while (cl_push_server_stand_alone(server) != -ESRCH)
		;
	CHECK(recv(fd, &byte, 1, 0) <= 0);
	pthread_join(call.thread, NULL);
	close(fd);
	CHECK(cl_push_server_admits(server, 5) == CL_PUSH_PLAIN && !opens(5, false) && !told->lost);
	cl_push_server_free(server);
}

/* What a client unpacks is known of its hello, which an older server, that knows of LZ4 only, understands, too. */
static void a_hello_tells_what_is_unpacked(void)
{
	static const unsigned int ways[] = { 0, 1U << CL_LZ4, 1U << CL_ZSTD, 1U << CL_LZ4 | 1U << CL_ZSTD };

	for (unsigned int i = 0; i < 16; i++) {
		struct cl_push_hello hello = { .stores = i & 4, .nr_streams = 1, .unpacks = ways[i % 4] }, found;
		uint8_t out[CL_PUSH_HELLO_MAX_BYTES];
		struct cl_wire_header header;

		hello.client = i & 4 ? 0 : CL_PUSH_MAX_CLIENT;
		(void)cl_push_pack_hello(1 + i / 8, &hello, out);
		CHECK(cl_push_tell_hello(out) == 1 + (int)i / 8 && cl_wire_unpack(1 + i / 8, out, &header) == 0);
		CHECK(cl_push_is_hello(&header, &found) && found.unpacks == hello.unpacks && found.stores == hello.stores);
		CHECK(found.client == hello.client && header.nr_pages == (hello.unpacks & 1U << CL_LZ4 ? 0x101 : 1));
	}
}

/* Of a task that is no more there is nothing to read: no server, and none to be freed. */
static void a_task_that_has_gone_has_no_server(const struct cl_push_server_config *config)
{
	struct cl_push_server_config of_gone = *config;
	struct cl_push_server *none;
	struct cl_error error;
	int32_t pids[2] = { config->pids[0], fork() };

	if (pids[1] == 0)
		_exit(0);
	CHECK(waitpid(pids[1], NULL, 0) == pids[1]);
	of_gone.pids = pids;
	CHECK(cl_push_server_new(&of_gone, &none, &error) < 0 && !none);
}

int main(int argc, char **argv)
{
	char directory[] = "/tmp/criu-lazy-serve.XXXXXX";
	struct cl_error error;
	const int32_t ids[] = { ID, CHILD_ID };
	int32_t pids[2];
	struct told told = { 0 };
	struct cl_push_server_config config = {
		.ids = ids, .pids = pids, .nr_tasks = 2, .log.fd = -1, .told = tell, .frozen = is_frozen, .context = &told
	};
	uint64_t random, pages = 0;

	CHECK(argc == 2);
	a_hello_tells_what_is_unpacked();
	alarm(120);
	random = strtoull(argv[1], NULL, 10);
	memory = mmap(NULL, PAGES * CL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	for (uint64_t i = 0; i < PAGES; i++) /* of four pages one is zero, one random, two can be packed */
		for (uint64_t word = 0; word < CL_PAGE_SIZE / 8 && i % 4; word++)
			((uint64_t *)(void *)memory)[i * CL_PAGE_SIZE / 8 + word] = i % 4 == 1 ? next_random(&random) : i;
	childs_memory = malloc(PAGES * CL_PAGE_SIZE);
	CHECK(childs_memory);
	memcpy(childs_memory, memory, PAGES * CL_PAGE_SIZE);
	write_as_child(childs_memory);
	pids[0] = getpid();
	pids[1] = start_child();
	config.images_fd = make_images(directory, ID, (uintptr_t)memory, PAGES);
	make_pagemap(config.images_fd, CHILD_ID, (uintptr_t)memory, PAGES);
	a_task_that_has_gone_has_no_server(&config);
	CHECK(cl_push_server_new(&config, &server, &error) == 0);
	a_good_client(true);
	a_good_client(false);
	for (unsigned int i = 0; i < CLIENTS; i++)
		pages += one_client(&random);
	a_good_client(true);
	CHECK(came[CL_LZ4] && came[CL_ZSTD]);
	CHECK(pages > CLIENTS && told.begun == CLIENTS + 3 && told.ended == told.begun && told.missing && told.done);
	cl_push_server_end(server, CL_PUSH_END_OVER);
	cl_push_server_free(server);
	check_sharing(pids);
	an_escaped_task_gives_no_page(&config);
	escaped = false;
	a_page_that_was_dropped_comes_again(&config);
	a_client_keeps_its_place(config);
	a_killed_task_ends_pushing(&config, pids[1], &told);
	free(childs_memory);
	CHECK(unlinkat(config.images_fd, "pagemap-4712.img", 0) == 0);
	remove_images(directory, ID, config.images_fd);
	munmap(memory, PAGES * CL_PAGE_SIZE);
	return 0;
}
