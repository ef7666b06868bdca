/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compression: fewer bytes for the same pages: which are zero, LZ4 for a batch of them, and whether that pays. No I/O; pure
 * but for LZ4's own working memory on the stack.
 *
 * Built without CL_WITH_LZ4 nothing is ever packed, and cl_compression_has_lz4() says so.
 */
#ifndef CL_COMPRESSION_H
#define CL_COMPRESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool cl_compression_has_lz4(void);

bool cl_page_is_zero(const uint8_t *page);

/* Pack `bytes` bytes into at most `bytes` - 1. The packed size; 0 if that is not worth it (less than a 16th saved). */
size_t cl_compression_pack(const uint8_t *data, size_t bytes, uint8_t *out);

/* Exactly out_bytes come out. 0, or -EBADMSG whatever the input is. */
int cl_compression_unpack(const uint8_t *packed, size_t packed_bytes, uint8_t *out, size_t out_bytes);

/*
 * Whether to pack, found out by doing: what a page takes either way, from memory until the socket has it, is measured,
 * and the quicker way is used. The other one is tried again, ever more rarely as long as it goes on losing. On a
 * slow link packing wins if the pages shrink; on a fast one it loses.
 */
struct cl_packing {
	struct {
		double us, pages; /* sums, in which what is older counts less */
	} ways[2];                /* without and with packing */
	unsigned int left;        /* batches until the next change of mind */
	unsigned int pause;       /* batches between two trials */
	bool packing;             /* this batch is packed */
	bool trying;              /* the way that lost last time is being tried */
};

void cl_packing_init(struct cl_packing *packing);

/* A batch of nr_pages took so long in the way packing->packing. */
void cl_packing_note(struct cl_packing *packing, uint64_t nr_pages, uint64_t elapsed_us);

#endif
