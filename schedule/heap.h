/*
 * A binary min-heap of 64-bit keys in an array that grows: for handing out the lowest free slot,
 * and the slot that is freed first.
 */
#ifndef DPR_SCHEDULE_HEAP_H
#define DPR_SCHEDULE_HEAP_H

#include <stdint.h>
#include <stdlib.h>

#include "base/memory.h"

typedef struct heap {
    int64_t *keys;
    size_t count;
    size_t capacity;
} heap_t;

static inline dpr_status_t heap_push(heap_t *heap, int64_t key)
{
    DPR_TRY(dpr_reserve(&heap->keys, &heap->capacity, heap->count + 1, sizeof *heap->keys));
    size_t i = heap->count++;
    while (i > 0 && heap->keys[(i - 1) / 2] > key) {
        heap->keys[i] = heap->keys[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap->keys[i] = key;
    return DPR_OK;
}

/* Replaces the least key (the heap is not empty). */
static inline void heap_replace(heap_t *heap, int64_t key)
{
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= heap->count) {
            break;
        }
        if (child + 1 < heap->count && heap->keys[child + 1] < heap->keys[child]) {
            child++;
        }
        if (heap->keys[child] >= key) {
            break;
        }
        heap->keys[i] = heap->keys[child];
        i = child;
    }
    heap->keys[i] = key;
}

/* Takes the least key out (the heap is not empty). */
static inline int64_t heap_pop(heap_t *heap)
{
    const int64_t least = heap->keys[0];
    const int64_t last = heap->keys[--heap->count];
    if (heap->count > 0) {
        heap_replace(heap, last);
    }
    return least;
}

static inline void heap_free(heap_t *heap)
{
    free(heap->keys);
    *heap = (heap_t){0};
}

#endif
