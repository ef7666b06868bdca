/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compression: fewer bytes for the same pages: which are zero, LZ4 or zstd for a batch of them, and which of these pays. No
 * I/O; pure but for the libraries' own working memory.
 *
 * Built without CL_WITH_LZ4 or CL_WITH_ZSTD nothing is packed that way, and cl_compression_has() says so.
 */
#ifndef CL_COMPRESSION_H
#define CL_COMPRESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a batch goes; a later one takes more CPU time. */
enum cl_packing_way {
	CL_AS_IT_IS,
	CL_LZ4,
	CL_ZSTD,
	CL_PACKING_WAYS,
};

bool cl_compression_has(enum cl_packing_way way);

/* All that are here, a bit each. */
unsigned int cl_compression_ways(void);

bool cl_page_is_zero(const uint8_t *page);

/*
 * What zstd needs to pack, at most a megabyte, and to unpack, 160 KiB; each from its first time on. All zero: nothing yet.
 * One thread's at a time.
 */
struct cl_packer {
	void *zstd, *unzstd;
};

void cl_packer_free(struct cl_packer *packer);

/*
 * Pack `bytes` bytes into at most `bytes` - 1, not CL_AS_IT_IS. The packed size; 0 if that is not worth it (less than a
 * 16th saved), or there is no memory.
 */
size_t cl_compression_pack(struct cl_packer *packer, enum cl_packing_way way, const uint8_t *data, size_t bytes,
			   uint8_t *out);

/* Exactly out_bytes come out. 0, or -EBADMSG whatever the input is (and without memory). */
int cl_compression_unpack(struct cl_packer *packer, enum cl_packing_way way, const uint8_t *packed, size_t packed_bytes,
			  uint8_t *out, size_t out_bytes);

/*
 * Which way to go, found out by doing: what a page takes each way, from memory until the socket has it, is measured,
 * and the quickest is used. The others are tried again, each ever more rarely as long as it goes on losing. On a
 * slow link packing wins if the pages shrink; on a fast one it loses.
 */
struct cl_packing {
	struct {
		double us, pages;   /* sums, in which what is older counts less */
		unsigned int pause; /* batches between two trials of it */
		unsigned int wait;  /* of those, still to come */
	} ways[CL_PACKING_WAYS];
	unsigned int allowed;     /* a bit each */
	enum cl_packing_way best; /* by the last trial */
	enum cl_packing_way way;  /* this batch's: the best, or the one that is being tried */
	unsigned int left;        /* batches of the trial */
};

/* `allowed`: what the peer unpacks, a bit each; those that aren't here are left out. */
void cl_packing_init(struct cl_packing *packing, unsigned int allowed);

/* A batch of nr_pages took so long in the way packing->way. */
void cl_packing_note(struct cl_packing *packing, uint64_t nr_pages, uint64_t elapsed_us);

#endif
