/* Calls that order work: listed while they are watched, and one of them left out. */
#include "internal.h"

#include <string.h>

/* Locked. */
static struct {
    bool watching;
    standin_call_t *calls;
    int capacity;
    int count;
    standin_omission_t omission; /* function NULL: none */
    unsigned long seen;          /* calls that it counts */
    bool happened;
} watch;

void standin_watch(standin_call_t *calls, int capacity, const standin_omission_t *omission)
{
    standin_lock();
    memset(&watch, 0, sizeof(watch));
    watch.watching = true;
    watch.calls = calls;
    watch.capacity = capacity;
    if (omission != NULL) {
        watch.omission = *omission;
    }
    standin_unlock();
}

int standin_watch_end(void)
{
    standin_lock();
    const int count = watch.count;
    watch.watching = false;
    watch.calls = NULL;
    standin_unlock();
    return count;
}

bool standin_omitted(void)
{
    standin_lock();
    const bool happened = watch.happened;
    standin_unlock();
    return happened;
}

void omit_reset(void)
{
    memset(&watch, 0, sizeof(watch));
}

static int device_of(const object_t *object)
{
    return object->kind == OBJECT_STREAM ? ((const struct CUstream_st *)object)->device
                                         : ((const struct CUevent_st *)object)->device;
}

/* The how-manieth of its kind that its device was given. */
static int place_of(const object_t *object)
{
    int place = 0;
    for (const object_t *other = object_first(); other != NULL; other = other->next) {
        place += other->kind == object->kind && other->number <= object->number &&
                 device_of(other) == device_of(object);
    }
    return place;
}

static bool is_the_one(const standin_call_t *call)
{
    const standin_omission_t *wanted = &watch.omission;
    if (wanted->function == NULL || strcmp(wanted->function, call->function) != 0 ||
        wanted->device != call->device || (wanted->stream != 0 && wanted->stream != call->stream)) {
        return false;
    }
    return ++watch.seen == wanted->call;
}

bool omit_call(const char *function, const struct CUstream_st *stream,
               const struct CUevent_st *event)
{
    if (!watch.watching) {
        return false;
    }
    const standin_call_t call = {.function = function,
                                 .device = stream->device,
                                 .stream = place_of(&stream->object),
                                 .event = event != NULL ? place_of(&event->object) : 0};
    if (watch.count < watch.capacity) {
        watch.calls[watch.count] = call;
    }
    watch.count++;
    const bool omitted = is_the_one(&call);
    watch.happened = watch.happened || omitted;
    return omitted;
}
