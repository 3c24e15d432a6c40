/* Streams of the host device: order, the bounded queue, copies and fills, ending with work pending.
 */
#include "device_testing.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device/host/host_impl.h"
#include "device/host/host_stream.h"

/* A counter that only kernels in the right order move: each knows what it must find. */
typedef struct tally {
    uint32_t next;
    uint32_t wrong;
} tally_t;

typedef struct tally_arguments {
    tally_t *tally;
    uint32_t position;
} tally_arguments_t;

static void tally_kernel(const void *arguments)
{
    const tally_arguments_t *own = arguments;
    own->tally->wrong += own->tally->next != own->position ? 1 : 0;
    own->tally->next++;
}

static void launch_tally(dpr_stream_t *stream, tally_t *tally, uint32_t position)
{
    const tally_arguments_t arguments = {.tally = tally, .position = position};
    assert_ok(dpr_host_stream_launch(stream, tally_kernel, &arguments, sizeof arguments));
}

static void a_stream_keeps_the_order_of_its_operations(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    dpr_stream_t *stream = open_stream(device, "order");
    tally_t tally = {0};
    for (uint32_t i = 0; i < 5000; i++) {
        launch_tally(stream, &tally, i);
    }
    assert_ok(dpr_stream_synchronize(stream));
    assert_int_equal(tally.next, 5000);
    assert_int_equal(tally.wrong, 0);
    assert_int_equal(dpr_stream_enqueued(stream), 5000); /* synchronizing is no operation */
    dpr_stream_destroy(stream);
    dpr_device_destroy(device);
}

typedef struct full_queue {
    latch_t latch;
    _Atomic uint32_t enqueued;
    uint32_t enqueued_at_release;
} full_queue_t;

/* Lets the stream go once its queue is (nearly) full and the producer had time to run ahead. */
static void *release_when_full(void *argument)
{
    full_queue_t *queue = argument;
    while (atomic_load(&queue->enqueued) < DPR_HOST_RING_COMMANDS - DPR_HOST_CONSUMED_BATCH) {
        (void)sched_yield();
    }
    (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    queue->enqueued_at_release = atomic_load(&queue->enqueued);
    latch_release(&queue->latch, DPR_OK, 0.0);
    return NULL;
}

static void a_full_queue_holds_the_producer_and_loses_nothing(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    dpr_stream_t *stream = open_stream(device, "full");
    full_queue_t queue = {0};
    tally_t tally = {0};
    pthread_t releaser;
    assert_int_equal(pthread_create(&releaser, NULL, release_when_full, &queue), 0);
    assert_ok(dpr_stream_host_op(stream, latch_start, &queue.latch));
    for (uint32_t i = 0; i < 100000; i++) {
        launch_tally(stream, &tally, i);
        atomic_store(&queue.enqueued, i + 1);
    }
    assert_ok(dpr_stream_synchronize(stream));
    assert_int_equal(pthread_join(releaser, NULL), 0);
    assert_in_range(queue.enqueued_at_release, 1, DPR_HOST_RING_COMMANDS);
    assert_int_equal(tally.next, 100000);
    assert_int_equal(tally.wrong, 0);
    dpr_stream_destroy(stream);
    dpr_device_destroy(device);
}

typedef struct block {
    size_t *misaligned;
    size_t *sums;
    unsigned char bytes[DPR_HOST_KERNEL_ARGUMENT_BYTES - 2 * sizeof(size_t *)];
} block_t;

static void sum_kernel(const void *arguments)
{
    const block_t *block = arguments;
    *block->misaligned += (uintptr_t)arguments % 16 != 0 ? 1 : 0;
    for (size_t i = 0; i < sizeof block->bytes; i++) {
        *block->sums += block->bytes[i];
    }
}

static void arguments_are_copied_whole_and_aligned(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    dpr_stream_t *stream = open_stream(device, "arguments");
    size_t misaligned = 0;
    size_t sum = 0;
    size_t expected = 0;
    block_t block = {.misaligned = &misaligned, .sums = &sum};
    _Static_assert(sizeof block == DPR_HOST_KERNEL_ARGUMENT_BYTES, "the largest there is");
    for (size_t i = 0; i < 3000; i++) {
        memset(block.bytes, (int)(i % 251), sizeof block.bytes);
        expected += i % 251 * sizeof block.bytes;
        assert_ok(dpr_host_stream_launch(stream, sum_kernel, &block, sizeof block));
    }
    assert_ok(dpr_stream_synchronize(stream));
    assert_int_equal(misaligned, 0);
    assert_int_equal(sum, expected);
    dpr_stream_destroy(stream);
    dpr_device_destroy(device);
}

static void check_copies_and_fills(uint64_t chaos_seed)
{
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, chaos_seed);
    dpr_stream_t *stream = open_stream(device, "copies");
    const size_t sizes[] = {0, 1, 2, 3, 255, 256, 257, 100003};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const size_t bytes = sizes[s];
        void *pinned;
        void *there;
        assert_ok(dpr_device_alloc(device, DPR_MEMORY_PINNED, bytes, &pinned));
        assert_ok(dpr_device_alloc(device, DPR_MEMORY_DEVICE, bytes, &there));
        unsigned char *back = malloc(bytes + 1);
        assert_non_null(back);
        back[bytes] = 77;
        for (size_t i = 0; i < bytes; i++) {
            ((unsigned char *)pinned)[i] = (unsigned char)(i * 7 % 256);
        }
        assert_ok(dpr_stream_fill(stream, there, 0, bytes));
        assert_ok(dpr_stream_copy(stream, there, pinned, bytes));
        assert_ok(dpr_stream_fill(stream, there, 5, bytes / 2));
        assert_ok(dpr_stream_copy(stream, back, there, bytes));
        assert_ok(dpr_stream_synchronize(stream));
        for (size_t i = 0; i < bytes; i++) {
            assert_int_equal(back[i], i < bytes / 2 ? 5 : i * 7 % 256);
        }
        assert_int_equal(back[bytes], 77);
        free(back);
        dpr_device_free(device, DPR_MEMORY_DEVICE, there);
        dpr_device_free(device, DPR_MEMORY_PINNED, pinned);
    }
    dpr_stream_destroy(stream);
    dpr_device_destroy(device);
}

static void copies_and_fills_move_every_byte(void **state)
{
    (void)state;
    check_copies_and_fills(0);
    check_copies_and_fills(3);
}

static void destroying_a_stream_does_its_pending_work_first(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        dpr_device_t *device = open_device(DPR_CLOCK_WALL, seed);
        dpr_stream_t *stream = open_stream(device, "pending");
        tally_t tally = {0};
        for (uint32_t i = 0; i < 50; i++) {
            launch_tally(stream, &tally, i);
        }
        dpr_stream_destroy(stream);
        assert_int_equal(tally.next, 50);
        assert_int_equal(tally.wrong, 0);
        dpr_device_destroy(device);
    }
}

typedef struct producer {
    dpr_stream_t *stream;
    tally_t tally;
    dpr_status_t status;
} producer_t;

static void *produce(void *argument)
{
    producer_t *producer = argument;
    for (uint32_t i = 0; i < 20000; i++) {
        const tally_arguments_t arguments = {.tally = &producer->tally, .position = i};
        (void)dpr_host_stream_launch(producer->stream, tally_kernel, &arguments, sizeof arguments);
        if (i % 4999 == 0) {
            (void)dpr_stream_synchronize(producer->stream);
        }
    }
    producer->status = dpr_stream_synchronize(producer->stream);
    return NULL;
}

static void check_producers(bool spin)
{
    enum { PRODUCERS = 4 };
    const dpr_host_device_options_t options = {.clock = DPR_CLOCK_WALL, .spin = spin};
    dpr_device_t *device;
    producer_t producers[PRODUCERS] = {0};
    pthread_t threads[PRODUCERS];
    assert_ok(dpr_host_device_create(&options, &device));
    for (int p = 0; p < PRODUCERS; p++) {
        producers[p].stream = open_stream(device, "producer");
        assert_int_equal(pthread_create(&threads[p], NULL, produce, &producers[p]), 0);
    }
    for (int p = 0; p < PRODUCERS; p++) {
        assert_int_equal(pthread_join(threads[p], NULL), 0);
        assert_ok(producers[p].status);
        assert_int_equal(producers[p].tally.next, 20000);
        assert_int_equal(producers[p].tally.wrong, 0);
        dpr_stream_destroy(producers[p].stream);
    }
    dpr_device_destroy(device);
}

static void producers_on_different_streams_do_not_disturb_each_other(void **state)
{
    (void)state;
    check_producers(false);
    check_producers(true);
}

static void name_kernel(const void *arguments)
{
    char *const *name = arguments;
    (void)pthread_getname_np(pthread_self(), *name, DPR_HOST_NAME_BYTES);
}

static void a_stream_carries_its_name_and_refuses_a_long_one(void **state)
{
    (void)state;
    dpr_device_t *device = open_device(DPR_CLOCK_WALL, 0);
    dpr_stream_t *stream = open_stream(device, "fifteen-letters");
    char found[DPR_HOST_NAME_BYTES] = "";
    char *name = found;
    assert_ok(dpr_host_stream_launch(stream, name_kernel, &name, sizeof name));
    assert_ok(dpr_stream_synchronize(stream));
    assert_string_equal(found, "fifteen-letters");
    dpr_stream_destroy(stream);
    stream = NULL;
    assert_int_equal(dpr_stream_create(device, "sixteen-letters!", 0, &stream), DPR_ERR_INVALID);
    assert_null(stream);
    dpr_stream_destroy(NULL);
    dpr_device_destroy(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_keeps_the_order_of_its_operations),
        cmocka_unit_test(a_full_queue_holds_the_producer_and_loses_nothing),
        cmocka_unit_test(arguments_are_copied_whole_and_aligned),
        cmocka_unit_test(copies_and_fills_move_every_byte),
        cmocka_unit_test(destroying_a_stream_does_its_pending_work_first),
        cmocka_unit_test(producers_on_different_streams_do_not_disturb_each_other),
        cmocka_unit_test(a_stream_carries_its_name_and_refuses_a_long_one),
    };
    return cmocka_run_group_tests_name("device_streams", tests, NULL, NULL);
}
