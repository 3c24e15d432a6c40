/*
 * Chaos does its work: a missing wait shows under some seed, and what waits as it should never
 * fails.
 *
 *     produce:  write 0        write 1        write 2   ...         one slot, used again and again
 *                    \ written /   read back      \
 *     consume:        read 0  +                    read 1   ...
 */
#include "device_testing.h"

#include <time.h>

#include "device/host/host_stream.h"

enum { ITEMS = 12, SEEDS = 200, SLOT_BYTES = 256 };

/* Which of the two waits the program does, and how long it dawdles before each consumer. */
typedef struct waits {
    bool written;
    bool read;
    long dawdle_nsec;
} waits_t;

/* The slot's words are atomic, so that the programs with a missing wait have no undefined
 * behaviour. */
typedef struct produce {
    _Atomic uint32_t *slot;
    uint32_t value;
} produce_t;

typedef struct consume {
    const _Atomic uint32_t *slot;
    uint32_t *first;
    uint32_t *last;
} consume_t;

enum { WORDS = SLOT_BYTES / sizeof(uint32_t) };

static void produce_kernel(const void *arguments)
{
    const produce_t *own = arguments;
    for (int w = 0; w < WORDS; w++) {
        atomic_store_explicit(&own->slot[w], own->value, memory_order_relaxed);
    }
}

static void consume_kernel(const void *arguments)
{
    const consume_t *own = arguments;
    *own->first = atomic_load_explicit(&own->slot[0], memory_order_relaxed);
    *own->last = atomic_load_explicit(&own->slot[WORDS - 1], memory_order_relaxed);
}

/* Returns how many items the consumer got wrong. */
static int wrong_items(uint64_t seed, waits_t waits)
{
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, seed);
    dpr_stream_t *producer = open_stream(device, "producer");
    dpr_stream_t *consumer = open_stream(device, "consumer");
    /* One for each item: with a wait missing, nothing would order a second record behind the
     * first's. */
    dpr_event_t *written[ITEMS];
    dpr_event_t *read[ITEMS];
    _Atomic uint32_t slot[WORDS] = {0};
    uint32_t got[ITEMS][2];
    for (uint32_t i = 0; i < ITEMS; i++) {
        const produce_t produce = {.slot = slot, .value = i + 1};
        const consume_t consume = {.slot = slot, .first = &got[i][0], .last = &got[i][1]};
        written[i] = open_event(device);
        read[i] = open_event(device);
        if (waits.read && i > 0) {
            assert_ok(dpr_stream_wait_event(producer, read[i - 1]));
        }
        assert_ok(dpr_host_stream_launch(producer, produce_kernel, &produce, sizeof produce));
        assert_ok(dpr_event_record(written[i], producer));
        if (waits.dawdle_nsec > 0) {
            (void)nanosleep(&(struct timespec){.tv_nsec = waits.dawdle_nsec}, NULL);
        }
        if (waits.written) {
            assert_ok(dpr_stream_wait_event(consumer, written[i]));
        }
        assert_ok(dpr_host_stream_launch(consumer, consume_kernel, &consume, sizeof consume));
        assert_ok(dpr_event_record(read[i], consumer));
    }
    dpr_stream_destroy(producer);
    dpr_stream_destroy(consumer);
    int wrong = 0;
    for (uint32_t i = 0; i < ITEMS; i++) {
        wrong += got[i][0] != i + 1 || got[i][1] != i + 1 ? 1 : 0;
        dpr_event_destroy(read[i]);
        dpr_event_destroy(written[i]);
    }
    dpr_device_destroy(device);
    return wrong;
}

static void every_seed_gives_right_results_where_all_waits_are_there(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        assert_int_equal(wrong_items(seed, (waits_t){.written = true, .read = true}), 0);
    }
}

/* At least so many of the seeds must show it: without chaos a few may, by chance. */
static void check_exposed(waits_t waits, int at_least)
{
    int exposed = 0;
    for (uint64_t seed = 1; seed <= SEEDS && exposed < at_least; seed++) {
        exposed += wrong_items(seed, waits) > 0 ? 1 : 0;
    }
    assert_int_equal(exposed, at_least);
}

static void a_missing_wait_for_the_data_is_exposed(void **state)
{
    (void)state;
    check_exposed((waits_t){.written = false, .read = true}, 1);
}

static void a_missing_wait_for_the_buffer_is_exposed(void **state)
{
    (void)state;
    check_exposed((waits_t){.written = true, .read = false}, 1);
}

/* The producer is enqueued so much earlier that without chaos its data is there in time. */
static void a_missing_wait_that_luck_stands_in_for_is_exposed(void **state)
{
    (void)state;
    check_exposed((waits_t){.written = false, .read = true, .dawdle_nsec = 300000}, SEEDS / 10);
}

/* With plain memory and a copy in the chain: the thread sanitizer sees a missing order for certain.
 */
static void a_chain_of_copies_is_ordered_by_its_events(void **state)
{
    (void)state;
    enum { STAGES = 4 };
    for (uint64_t seed = 1; seed <= 20; seed++) {
        dpr_device_t *device = open_device(DPR_CLOCK_CORE, seed);
        dpr_stream_t *streams[STAGES];
        dpr_event_t *events[STAGES];
        unsigned char buffers[STAGES + 1][SLOT_BYTES];
        for (int s = 0; s < STAGES; s++) {
            streams[s] = open_stream(device, "stage");
            events[s] = open_event(device);
        }
        for (int item = 0; item < 10; item++) {
            /* The first stage starts over when the last is done. */
            assert_ok(dpr_stream_wait_event(streams[0], events[STAGES - 1]));
            assert_ok(dpr_stream_fill(streams[0], buffers[0], item, SLOT_BYTES));
            for (int s = 0; s < STAGES; s++) {
                if (s > 0) {
                    assert_ok(dpr_stream_wait_event(streams[s], events[s - 1]));
                }
                assert_ok(dpr_stream_copy(streams[s], buffers[s + 1], buffers[s], SLOT_BYTES));
                assert_ok(dpr_event_record(events[s], streams[s]));
            }
        }
        assert_ok(dpr_event_synchronize(events[STAGES - 1]));
        for (int i = 0; i < SLOT_BYTES; i++) {
            assert_int_equal(buffers[STAGES][i], 9);
        }
        for (int s = 0; s < STAGES; s++) {
            dpr_stream_destroy(streams[s]);
            dpr_event_destroy(events[s]);
        }
        dpr_device_destroy(device);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_seed_gives_right_results_where_all_waits_are_there),
        cmocka_unit_test(a_missing_wait_for_the_data_is_exposed),
        cmocka_unit_test(a_missing_wait_for_the_buffer_is_exposed),
        cmocka_unit_test(a_missing_wait_that_luck_stands_in_for_is_exposed),
        cmocka_unit_test(a_chain_of_copies_is_ordered_by_its_events),
    };
    return cmocka_run_group_tests_name("device_chaos", tests, NULL, NULL);
}
