/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/readahead.h"

#include "wire/page_protocol.h"

enum {
	REACH_PAGES = 16, /* a fault so near to a stream's edge belongs to it */
	SURE = 2,         /* more faults one way than the other: it goes that way */
	BACK_PAGES = 2,   /* threads may swap neighbouring pages even so */
	FIRST_WINDOW = 8, /* pages */
	MAX_WINDOW = 1 << 16,
	AROUND_PAGES = 8,     /* asked for on one side at once */
	WINDOW_REQUESTS = 16, /* a window's most, in requests: a few ms of the link */
	KEEP_CONFIRMED = 256, /* faults that a confirmed stream outlives a lone one by */
	NEAR_STEP = 64,       /* up to here three faults make a progression, above it takes four */
	LOOK_AHEAD = 1024,    /* pages, or steps, looked at for one that is todo */
	/*
	 * What a request of a single page takes of the page server and of us, in ns, measured where both share two busy
	 * cores (an idle server alone: 48 us), and what a page takes in large requests. Too high wastes less than too low.
	 */
	REQUEST_NS = 150000,
	MAX_EXTRA_NS = 7 * REQUEST_NS,
	SERVED_PAGE_NS = 1500,
	FORGET_RATE = 65536, /* guesses */
	LONG_PAGES = 8,      /* the least, and the most, asked for elsewhere between requests of single pages */
	MAX_LONG_PAGES = 256,
};

static int64_t distance(int64_t a, int64_t b)
{
	return a < b ? b - a : a - b;
}

static int64_t common_divisor(int64_t a, int64_t b)
{
	while (b) {
		int64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static bool by_steps(const struct cl_stream *stream)
{
	return stream->stride != 1;
}

/* ---- recognising ---- */

/* Where steps go: a round that starts near this one's start, or a whole number of steps up to just past the head. */
static bool steps_reach(const struct cl_stream *stream, int64_t index)
{
	int64_t stride = stream->stride, ahead = (index - stream->start) / stride;

	if ((index - stream->start) % stride == 0)
		return ahead >= 0 && ahead <= (stream->head - stream->start) / stride + REACH_PAGES;
	return stride > 0 ? index > stream->start && index - stream->start <= 2 :
			    index < stream->start && stream->start - index <= 2;
}

static bool reaches(const struct cl_stream *stream, const struct cl_image *image, int64_t index)
{
	if (stream->image != image)
		return false;
	if (by_steps(stream))
		return steps_reach(stream, index);
	/* Where it came from, one that is sure of its direction doesn't return. */
	return index >= (stream->trend < SURE ? stream->low - REACH_PAGES : stream->last - BACK_PAGES) &&
	       index <= (stream->trend > -SURE ? stream->head + REACH_PAGES : stream->last + BACK_PAGES);
}

/* How well a fault in its reach fits a stream: side by side is better than by steps, and that better than about. */
static int fitness(const struct cl_stream *stream, int64_t index)
{
	if (by_steps(stream))
		return 2;
	if (stream->hits || (index >= stream->low - BACK_PAGES && index <= stream->head + BACK_PAGES))
		return 3;
	return 1;
}

static struct cl_stream *find_stream(struct cl_readahead *readahead, const struct cl_image *image, int64_t index)
{
	struct cl_stream *stream, *best = NULL;
	int fits, best_fits = 0;

	for (stream = readahead->streams; stream < readahead->streams + CL_STREAMS; stream++) {
		if (!reaches(stream, image, index))
			continue;
		fits = fitness(stream, index);
		if (fits > best_fits || (fits == best_fits && stream->used > best->used)) {
			best = stream;
			best_fits = fits;
		}
	}
	return best;
}

/* The free stream, or else the one whose last fault is the longest ago; lone ones go first. */
static struct cl_stream *replace_stream(struct cl_readahead *readahead)
{
	struct cl_stream *stream, *oldest = NULL;
	uint64_t age, oldest_age = 0;

	for (stream = readahead->streams; stream < readahead->streams + CL_STREAMS; stream++) {
		if (!stream->image)
			return stream;
		age = readahead->faults - stream->used + KEEP_CONFIRMED;
		if (stream->hits)
			age -= KEEP_CONFIRMED;
		if (!oldest || age > oldest_age) {
			oldest = stream;
			oldest_age = age;
		}
	}
	return oldest;
}

static bool was_lone(const struct cl_readahead *readahead, const struct cl_image *image, int64_t index)
{
	unsigned int i;

	for (i = 0; i < CL_LONE_FAULTS; i++)
		if (readahead->lone[i].index == index && readahead->lone[i].image == image)
			return true;
	return false;
}

/* The step of an arithmetic progression of lone faults that ends at `index`; 0 if there is none. */
static int64_t progression(const struct cl_readahead *readahead, const struct cl_image *image, int64_t index)
{
	uint64_t i, nr = readahead->nr_lone < CL_LONE_FAULTS ? readahead->nr_lone : CL_LONE_FAULTS;

	for (i = 1; i <= nr; i++) { /* the latest first */
		uint64_t at = (readahead->nr_lone - i) % CL_LONE_FAULTS;
		int64_t step = index - readahead->lone[at].index;

		if (readahead->lone[at].image != image || step == 0)
			continue;
		if (was_lone(readahead, image, index - 2 * step) &&
		    (distance(step, 0) <= NEAR_STEP || was_lone(readahead, image, index - 3 * step)))
			return step;
	}
	return 0;
}

/*
 * Lone streams that seem to be a progression's beginning, from `start` on, are not worth much. They stay, though:
 * threads that go side by side through parts of the same size make progressions, too.
 */
static void discredit_lone(struct cl_readahead *readahead, const struct cl_image *image, int64_t start, int64_t step)
{
	struct cl_stream *stream;

	for (stream = readahead->streams; stream < readahead->streams + CL_STREAMS; stream++)
		if (stream->image == image && !stream->hits && (stream->start - start) % step == 0 &&
		    (stream->start - start) / step >= 0)
			stream->credit = 0;
}

static void start_stream(struct cl_readahead *readahead, struct cl_image *image, int64_t index)
{
	int64_t step = progression(readahead, image, index);
	struct cl_stream *stream = replace_stream(readahead);
	uint64_t at = readahead->nr_lone++ % CL_LONE_FAULTS;

	*stream = (struct cl_stream){ .image = image,
				      .stride = 1,
				      .start = index,
				      .last = index,
				      .head = index + 1,
				      .low = index - 1,
				      .trend = 0,
				      .used = readahead->faults,
				      .window = FIRST_WINDOW,
				      .credit = FIRST_WINDOW };
	if (step < -1 || step > 1) {
		stream->stride = step;
		stream->head = index + step;
		stream->hits = 2;
		stream->credit = FIRST_WINDOW;
		while (was_lone(readahead, image, stream->start - step))
			stream->start -= step;
		discredit_lone(readahead, image, stream->start, step);
	}
	readahead->lone[at].image = image;
	readahead->lone[at].index = index;
	readahead->latest = stream;
}

/* A near stream, all of whose faults are a multiple of `step` apart, goes by steps. */
static void take_steps(struct cl_stream *stream, int64_t index)
{
	stream->stride = stream->trend < 0 ? -stream->step : stream->step;
	stream->start = index;
	stream->head = index + stream->stride;
}

static void follow(struct cl_stream *stream, int64_t index)
{
	int64_t moved = index - stream->last;

	if (moved == 0)
		return; /* another thread, the same page */
	stream->last = index;
	stream->hits++;
	stream->ahead = 0;
	if (stream->window < MAX_WINDOW) /* until next_stream() knows better */
		stream->window *= 2;
	if (by_steps(stream)) {
		if ((index - stream->start) % stream->stride) {
			stream->start = index; /* the next round */
			stream->head = index + stream->stride;
		} else if ((index - stream->head) / stream->stride >= 0) {
			stream->head = index + stream->stride;
		}
		return;
	}
	stream->step = common_divisor(stream->step, distance(moved, 0));
	if (moved > 0)
		stream->trend += stream->trend < SURE;
	else
		stream->trend -= stream->trend > -SURE;
	/* Sure of its direction, it leaves what was passed over for later. */
	if (stream->trend == SURE && index >= stream->head)
		stream->head = index + 1;
	if (stream->trend == -SURE && index <= stream->low)
		stream->low = index - 1;
	if (stream->step > 1 && stream->hits >= 3 && stream->trend)
		take_steps(stream, index);
}

void cl_readahead_fault(struct cl_readahead *readahead, struct cl_image *image, uint64_t index)
{
	struct cl_stream *stream = find_stream(readahead, image, (int64_t)index);

	readahead->faults++;
	if (!stream) {
		start_stream(readahead, image, (int64_t)index);
		return;
	}
	follow(stream, (int64_t)index);
	stream->used = readahead->faults;
	stream->credit = stream->window;
	readahead->latest = stream;
}

/* ---- going ahead ---- */

/* The first page of `source` todo by the stream's steps; a round that is over is followed by the next one. */
static uint64_t take_step(struct cl_stream *stream, enum cl_source source, uint64_t *index)
{
	int64_t nr_pages = (int64_t)stream->image->nr_pages, at;
	int looked;

	for (looked = 0; looked < LOOK_AHEAD; looked++) {
		if (stream->head < 0 || stream->head >= nr_pages) {
			stream->start += stream->stride > 0 ? 1 : -1;
			stream->head = stream->start;
			if (stream->head < 0 || stream->head >= nr_pages ||
			    ++stream->rounds == distance(stream->stride, 0)) {
				stream->image = NULL;
				return 0;
			}
		}
		at = stream->head;
		stream->head += stream->stride;
		if (cl_image_is_todo(stream->image, source, (uint64_t)at))
			return cl_image_take(stream->image, source, (uint64_t)at, false, 1, index);
	}
	return 0;
}

static uint64_t take_above(struct cl_stream *stream, enum cl_source source, uint64_t max_pages, uint64_t *index)
{
	uint64_t nr;

	if (stream->head >= (int64_t)stream->image->nr_pages)
		return 0;
	nr = cl_image_take(stream->image, source, (uint64_t)stream->head, false, max_pages, index);
	stream->head = nr ? (int64_t)(*index + nr) : (int64_t)stream->image->nr_pages;
	return nr;
}

/* The run of todo pages that ends nearest below, or its upper max_pages. */
static uint64_t take_below(struct cl_stream *stream, enum cl_source source, uint64_t max_pages, uint64_t *index)
{
	const struct cl_shared_bits *todo = &stream->image->todo[source];
	uint64_t end, from, nr;

	if (stream->low < 0)
		return 0;
	end = cl_shared_bits_find_last(todo, 0, (uint64_t)stream->low + 1, true);
	if (end == 0) {
		stream->low = -1;
		return 0;
	}
	from = cl_image_extent(stream->image, end - 1)->first;
	if (end - from > max_pages)
		from = end - max_pages;
	from = cl_shared_bits_find_last(todo, from, end, false);
	nr = cl_image_take(stream->image, source, from, false, end - from, index);
	stream->low = (int64_t)from - 1;
	return nr;
}

static uint64_t take_all_steps(struct cl_stream *stream, enum cl_source source, uint64_t max_pages, uint64_t *index)
{
	int64_t off;
	uint64_t nr;

	if (stream->stride > 0) {
		nr = take_above(stream, source, max_pages, index);
	} else {
		stream->low = stream->head;
		nr = take_below(stream, source, max_pages, index);
		stream->head = stream->low;
	}
	off = (stream->head - stream->start) % stream->stride; /* of the same sign as stride, or 0 */
	stream->head += off ? stream->stride - off : 0;
	return nr;
}

static uint64_t take_around(struct cl_stream *stream, enum cl_source source, uint64_t max_pages, uint64_t *index)
{
	uint64_t nr;

	if (max_pages > AROUND_PAGES)
		max_pages = AROUND_PAGES;
	stream->below = !stream->below;
	nr = stream->below ? take_below(stream, source, max_pages, index) : take_above(stream, source, max_pages, index);
	if (!nr)
		nr = stream->below ? take_above(stream, source, max_pages, index) :
				     take_below(stream, source, max_pages, index);
	return nr;
}

static bool go_ahead(struct cl_readahead *readahead, struct cl_stream *stream, enum cl_source source, uint64_t max_pages,
		     struct cl_guess *guess)
{
	guess->image = stream->image;
	/* On a fast link the pages between near steps take less time than requests of their own. */
	if (by_steps(stream) && (uint64_t)distance(stream->stride, 0) * readahead->page_ns <= REQUEST_NS)
		guess->nr_pages = take_all_steps(stream, source, max_pages, &guess->index);
	else if (by_steps(stream))
		guess->nr_pages = take_step(stream, source, &guess->index);
	else if (stream->trend > 0 || !stream->hits)
		guess->nr_pages = take_above(stream, source, max_pages, &guess->index);
	else if (stream->trend < 0)
		guess->nr_pages = take_below(stream, source, max_pages, &guess->index);
	else
		guess->nr_pages = take_around(stream, source, max_pages, &guess->index);
	if (!guess->nr_pages) {
		stream->credit = 0;
		return false;
	}
	stream->credit -= guess->nr_pages < stream->credit ? guess->nr_pages : stream->credit;
	stream->ahead += guess->nr_pages;
	if (guess->nr_pages == 1)
		readahead->singles++;
	return true;
}

/* As far as it has gone in fact: it is not trusted for more. */
static uint64_t proven(const struct cl_stream *stream)
{
	uint64_t pages = (uint64_t)distance(stream->last, stream->start);

	return pages < FIRST_WINDOW ? FIRST_WINDOW : pages;
}

/* The one that is less ahead of its last fault: whoever waits is served in turn; then the one that faulted later. */
static bool goes_before(const struct cl_stream *stream, const struct cl_stream *other)
{
	return stream->ahead != other->ahead ? stream->ahead < other->ahead : stream->used > other->used;
}

/* Whose credit is spent next; NULL if nobody has any. */
static struct cl_stream *next_stream(struct cl_readahead *readahead, uint64_t max_pages)
{
	struct cl_stream *stream, *best = NULL;

	for (stream = readahead->streams; stream < readahead->streams + CL_STREAMS; stream++) {
		if (!stream->image)
			continue;
		if (stream->window > WINDOW_REQUESTS * max_pages)
			stream->window = WINDOW_REQUESTS * max_pages;
		if (stream->credit > stream->window)
			stream->credit = stream->window;
		if (stream->credit > proven(stream))
			stream->credit = proven(stream);
		if (stream->credit && (!best || goes_before(stream, best)))
			best = stream;
	}
	return best;
}

/*
 * With single pages alone the page server couldn't fill the link. True if so many were asked for in a row that the
 * next request has to be one of *max_pages, for the link to be busy for as long as the server is with all of them.
 */
static bool too_many_singles(const struct cl_readahead *readahead, uint64_t page_ns, uint64_t *max_pages)
{
	uint64_t request_ns = REQUEST_NS + readahead->extra_ns, single_ns = request_ns + SERVED_PAGE_NS, gain_ns;
	uint64_t least = MAX_LONG_PAGES;

	if (page_ns >= single_ns)
		return false;
	if (page_ns > SERVED_PAGE_NS) { /* enough for one single page, at the least */
		gain_ns = page_ns - SERVED_PAGE_NS;
		least = (request_ns + single_ns - page_ns) / gain_ns + 1;
		if (least < LONG_PAGES)
			least = LONG_PAGES;
		if (least < *max_pages)
			least = *max_pages;
		if (least <= MAX_LONG_PAGES && readahead->singles < (least * gain_ns - request_ns) / (single_ns - page_ns))
			return false;
	}
	if (!readahead->singles)
		return false;
	if (!page_ns)
		least = LONG_PAGES;
	if (*max_pages < least)
		*max_pages = least < MAX_LONG_PAGES ? least : MAX_LONG_PAGES;
	return true;
}

void cl_readahead_delivered(struct cl_readahead *readahead, uint64_t rate)
{
	uint64_t extra_ns = readahead->extra_ns;

	/* Far from what the link has shown: quickly fewer single pages. */
	if (rate < readahead->rate / 32 * 31)
		extra_ns += (REQUEST_NS + extra_ns) / 4;
	else if (rate > readahead->rate / 64 * 63)
		extra_ns -= extra_ns / 32;
	readahead->extra_ns = extra_ns < MAX_EXTRA_NS ? extra_ns : MAX_EXTRA_NS;
}

bool cl_readahead_next(struct cl_readahead *readahead, enum cl_source source, uint64_t rate, uint64_t *max_pages,
		       struct cl_guess *guess)
{
	struct cl_stream *stream;

	/* A link that has shown its speed once isn't slow because what was asked for since was small. */
	readahead->rate -= readahead->rate / FORGET_RATE;
	if (readahead->rate < rate)
		readahead->rate = rate;
	/* Rather fast than slow: what is measured while single pages come may be the server's speed. */
	readahead->page_ns = rate ? 1000000000ull * CL_PAGE_SIZE / readahead->rate * 7 / 8 : 0;
	if (too_many_singles(readahead, readahead->page_ns, max_pages)) {
		readahead->singles = 0;
		return false;
	}
	while ((stream = next_stream(readahead, *max_pages)))
		if (go_ahead(readahead, stream, source, *max_pages, guess))
			return true;
	return readahead->latest && readahead->latest->image &&
	       go_ahead(readahead, readahead->latest, source, *max_pages, guess);
}
