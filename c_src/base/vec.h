/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec: arrays that grow. An array is a pointer (NULL: none yet), its capacity, and a number of elements that is the
 * owner's own; it is freed by free(3). Not for a capacity that the peer decides: `limit` is what bounds it.
 *
 *	if (cl_vec_reserve(&list->items, &list->max, list->nr + 1, LIMIT) < 0)
 *		return -ENOMEM;
 *	list->items[list->nr++] = item;
 */
#ifndef CL_VEC_H
#define CL_VEC_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { CL_VEC_FIRST = 16 };

#define CL_VEC_NO_LIMIT SIZE_MAX /* something else bounds it: say what */

/* The array's new place, with room for `needed` elements; NULL: no memory, or above limit, and the array is as it was. */
static inline void *cl_vec_grown(void *items, size_t *max, size_t needed, size_t size, size_t limit)
{
	size_t room = *max ? *max : CL_VEC_FIRST;
	void *moved;

	if (needed > limit || needed > PTRDIFF_MAX / size)
		return NULL;
	while (room < needed && room <= SIZE_MAX / 2)
		room *= 2;
	if (room < needed || room > limit)
		room = limit;
	moved = reallocarray(items, room, size);
	if (moved)
		*max = room;
	return moved;
}

/*
 * Room for `needed` elements in *items, of capacity *max (a size_t); *items may move. The capacity doubles, up to `limit`.
 * 0, or -ENOMEM (above limit, too): the array is as it was.
 */
#define cl_vec_reserve(items, max, needed, limit) \
	({ \
		size_t cl_needed = (needed); \
		int cl_ret = 0; \
		if (cl_needed > *(max)) { \
			void *cl_moved = cl_vec_grown(*(items), (max), cl_needed, sizeof(**(items)), (limit)); \
			if (cl_moved) \
				*(items) = cl_moved; \
			else \
				cl_ret = -ENOMEM; \
		} \
		cl_ret; \
	})

#endif
