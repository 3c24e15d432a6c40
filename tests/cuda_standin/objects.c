/*
 * The objects behind CUDA's and NCCL's handles. A handle is looked up in a table of all objects
 * before anything is read through it, and a destroyed object stays in it until the reset, so a
 * stale or foreign handle is a reported misuse and not a crash.
 */
#include "internal.h"

#include <stdlib.h>

enum { BUCKETS = 4096 };

typedef struct entry {
    object_t *object;
    struct entry *next;
} entry_t;

static entry_t *buckets[BUCKETS];
static object_t *all;
static int alive[OBJECT_KINDS];
static unsigned long created[OBJECT_KINDS];

static size_t bucket_of(const void *handle)
{
    return (size_t)(((uintptr_t)handle >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 52) % BUCKETS;
}

const char *object_kind_name(object_kind_t kind)
{
    static const char *const names[OBJECT_KINDS] = {
        [OBJECT_STREAM] = "stream",
        [OBJECT_EVENT] = "event",
        [OBJECT_GRAPH] = "graph",
        [OBJECT_EXEC] = "executable graph",
        [OBJECT_COMM] = "NCCL communicator",
    };
    return names[kind];
}

void *object_create(object_kind_t kind, size_t size)
{
    object_t *object = calloc(1, size);
    entry_t *entry = calloc(1, sizeof(*entry));
    if (object == NULL || entry == NULL) {
        free(object);
        free(entry);
        return NULL;
    }
    *object = (object_t){.kind = kind, .alive = true, .number = ++created[kind], .next = all};
    all = object;
    alive[kind]++;
    entry->object = object;
    entry->next = buckets[bucket_of(object)];
    buckets[bucket_of(object)] = entry;
    return object;
}

void *object_find(const void *handle, object_kind_t kind, const char *function)
{
    const entry_t *entry = buckets[bucket_of(handle)];
    while (entry != NULL && (const void *)entry->object != handle) {
        entry = entry->next;
    }
    if (entry == NULL || entry->object->kind != kind) {
        standin_misuse("%s: %p is no %s", function, handle, object_kind_name(kind));
        return NULL;
    }
    if (!entry->object->alive) {
        standin_misuse("%s: %s %lu was destroyed before", function, object_kind_name(kind),
                       entry->object->number);
        return NULL;
    }
    return entry->object;
}

void object_bury(object_t *object)
{
    object->alive = false;
    alive[object->kind]--;
}

object_t *object_first(void)
{
    return all;
}

int object_count(object_kind_t kind)
{
    return alive[kind];
}

/* What an object holds besides itself. */
static void release_contents(object_t *object)
{
    switch (object->kind) {
    case OBJECT_STREAM:
        frontier_clear(&((struct CUstream_st *)(void *)object)->frontier);
        break;
    case OBJECT_EVENT: {
        struct CUevent_st *event = (struct CUevent_st *)(void *)object;
        frontier_clear(&event->frontier);
        record_release(event->latest);
        break;
    }
    default: /* graphs and communicators gave theirs up when they were destroyed */
        break;
    }
}

void object_forget_all(void)
{
    object_t *kept = NULL;
    for (object_t *object = all, *next; object != NULL; object = next) {
        next = object->next;
        entry_t **link = &buckets[bucket_of(object)];
        while ((*link)->object != object) {
            link = &(*link)->next;
        }
        entry_t *entry = *link;
        *link = entry->next;
        free(entry);
        if (object->alive) {
            object->next = kept; /* a leak of the test's, for the sanitizer to tell */
            kept = object;
        } else {
            release_contents(object);
            free(object);
        }
    }
    all = NULL;
    for (int kind = 0; kind < OBJECT_KINDS; kind++) {
        alive[kind] = 0;
        created[kind] = 0;
    }
}
