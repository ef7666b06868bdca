/* SPDX-License-Identifier: Apache-2.0 */
/*
 * many_tasks N FILE: N processes, the first of which has forked the others, each with memory of its own. FILE gets the first
 * one's pid once all is there. On SIGUSR1 each checks its memory, the others end, and FILE.result gets "N right" or how many
 * were wrong.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS = 65536 / 8, STEP = 64 };

static size_t *memory, self;

static void fill(void)
{
	memory = malloc(WORDS * sizeof(*memory));
	if (!memory)
		_exit(1);
	for (size_t i = 0; i < WORDS; i += STEP)
		memory[i] = self * WORDS + i;
}

static int is_wrong(void)
{
	size_t i = 0;

	while (i < WORDS && memory[i] == self * WORDS + i)
		i += STEP;
	return i < WORDS;
}

static void write_file(const char *path, const char *suffix, const char *text)
{
	char name[256], fresh[256];
	FILE *file;

	snprintf(name, sizeof(name), "%s%s", path, suffix);
	snprintf(fresh, sizeof(fresh), "%s%s.new", path, suffix);
	file = fopen(fresh, "w");
	if (!file || fputs(text, file) < 0 || fclose(file) || rename(fresh, name))
		exit(1);
}

int main(int argc, char **argv)
{
	size_t nr = argc == 3 ? strtoul(argv[1], NULL, 10) : 0, wrong;
	pid_t *children = calloc(nr + 1, sizeof(*children));
	char text[64];
	sigset_t set;
	int number, status;

	if (!nr || !children)
		return 2;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (size_t i = 1; i < nr; i++) {
		children[i] = fork();
		if (children[i] < 0)
			return 1;
		if (children[i] == 0) {
			self = i;
			break;
		}
	}
	fill();
	if (!self) {
		snprintf(text, sizeof(text), "%d\n", (int)getpid());
		write_file(argv[2], "", text);
	}
	sigwait(&set, &number);
	wrong = (size_t)is_wrong();
	if (self)
		return (int)wrong;
	for (size_t i = 1; i < nr; i++)
		kill(children[i], SIGUSR1);
	for (size_t i = 1; i < nr; i++)
		wrong += waitpid(children[i], &status, 0) < 0 || status != 0;
	snprintf(text, sizeof(text), "%zu %s\n", wrong ? wrong : nr, wrong ? "wrong" : "right");
	write_file(argv[2], ".result", text);
	return 0;
}
