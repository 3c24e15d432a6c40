/* What an all-reduce promises: the sum in rank order, the same bits on every member and every time.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "comm_testing.h"

enum { RANKS_MAX = 64 };

static const int ascending[RANKS_MAX] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
    44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

/* Values of very different size, so that another order of summation gives other bits. */
static double summand(int rank, size_t index)
{
    const double scale = (double)(UINT64_C(1) << dpr_random_bits(7, (uint64_t)rank, index) % 40);
    return scale * (2.0 * dpr_random_uniform(8, (uint64_t)rank, index) - 1.0);
}

static void fill(void *buffer, dpr_element_t element, size_t count, int rank)
{
    for (size_t i = 0; i < count; i++) {
        if (element == DPR_ELEMENT_FLOAT) {
            ((float *)buffer)[i] = (float)summand(rank, i);
        } else {
            ((double *)buffer)[i] = summand(rank, i);
        }
    }
}

/* To rounding, which is all that NCCL promises: it adds in an order of its own. */
static bool is_near_sum(double got, const int *ranks, int size, size_t index, double precision)
{
    double sum = 0.0;
    double scale = 0.0;
    for (int member = 0; member < size; member++) {
        sum += summand(ranks[member], index);
        scale += fabs(summand(ranks[member], index));
    }
    return fabs(got - sum) <= (double)size * precision * scale;
}

static bool is_near_sum_of(const void *buffer, dpr_element_t element, size_t count,
                           const int *ranks, int size)
{
    for (size_t i = 0; i < count; i++) {
        const bool is_float = element == DPR_ELEMENT_FLOAT;
        const double got =
            is_float ? (double)((const float *)buffer)[i] : ((const double *)buffer)[i];
        if (!is_near_sum(got, ranks, size, i, is_float ? 0x1p-23 : 0x1p-51)) {
            return false;
        }
    }
    return true;
}

static bool holds_sum_of(const void *buffer, dpr_element_t element, size_t count, const int *ranks,
                         int size)
{
    for (size_t i = 0; i < count; i++) {
        float sum = (float)summand(ranks[0], i);
        double wide_sum = summand(ranks[0], i);
        for (int member = 1; member < size; member++) {
            sum += (float)summand(ranks[member], i);
            wide_sum += summand(ranks[member], i);
        }
        if (element == DPR_ELEMENT_FLOAT
                ? memcmp(&sum, (const float *)buffer + i, sizeof sum) != 0
                : memcmp(&wide_sum, (const double *)buffer + i, sizeof wide_sum) != 0) {
            return false;
        }
    }
    return true;
}

/* Every member's bits, where all ranks are members. */
static void check_same_bits(rank_test_t *test, const unsigned char *buffer, size_t bytes)
{
    uint64_t all[RANKS_MAX];
    uint64_t hash = bytes;
    for (size_t i = 0; i < bytes; i++) {
        hash = dpr_random_mix(hash ^ buffer[i]);
    }
    CHECK(test, dpr_comm_allgather(test->comm, &hash, sizeof hash, all) == DPR_OK);
    for (int rank = 0; rank < test->size; rank++) {
        CHECK(test, all[rank] == hash);
    }
}

/* Checked by every member against the sum in rank order: that the bits are those on every member
 * and every time follows. NCCL's are compared with each other. */
static void check_sum(rank_test_t *test, const void *buffer, const int *ranks, int size,
                      dpr_element_t element, size_t count)
{
    const size_t bytes = count * (element == DPR_ELEMENT_FLOAT ? sizeof(float) : sizeof(double));
    if (!test->is_nccl) {
        CHECK(test, holds_sum_of(buffer, element, count, ranks, size));
        return;
    }
    CHECK(test, is_near_sum_of(buffer, element, count, ranks, size));
    if (size == test->size) {
        check_same_bits(test, buffer, bytes);
    }
}

/* One all-reduce over the `size` ranks listed; called by all ranks. */
static void reduce_once(rank_test_t *test, dpr_comm_group_t *group, const int *ranks, int size,
                        dpr_element_t element, size_t count, dpr_stream_t *stream)
{
    if (group == NULL) {
        settle(test);
        settle(test);
        return;
    }
    void *buffer = make_memory(test, count * sizeof(double));
    fill(buffer, element, count, test->rank);
    settle(test);
    CHECK(test, dpr_group_allreduce_sum(group, buffer, count, element, 0.0, stream) == DPR_OK);
    settle(test);
    CHECK(test, dpr_stream_synchronize(stream) == DPR_OK);
    check_sum(test, buffer, ranks, size, element, count);
    free_memory(test, buffer);
}

void scenario_allreduce_bits(rank_test_t *test)
{
    static const size_t counts[] = {0, 1, 3, 7, 1001, 8191, 65537, 300007};
    dpr_stream_t *stream = make_stream(test);
    for (int size = test->size; size > 1; size = size > 2 ? 2 : 0) {
        dpr_comm_group_t *group = make_group(test, ascending, size);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            reduce_once(test, group, ascending, size, DPR_ELEMENT_FLOAT, counts[i], stream);
            reduce_once(test, group, ascending, size, DPR_ELEMENT_DOUBLE, counts[i], stream);
        }
        dpr_group_close(group);
    }
    dpr_stream_destroy(stream);
}

/* Longer than the scratch of a group, by an odd number. */
void scenario_allreduce_long(rank_test_t *test)
{
    dpr_stream_t *stream = make_stream(test);
    for (int size = test->size; size > 1; size = size > 2 ? 2 : 0) {
        dpr_comm_group_t *group = make_group(test, ascending, size);
        reduce_once(test, group, ascending, size, DPR_ELEMENT_FLOAT, 2500003, stream);
        dpr_group_close(group);
    }
    dpr_stream_destroy(stream);
}

/* Pairs (0,1), (1,2), ... and all, each on its own stream, all under way at once, and enqueued in
 * no common order where the backend needs none. */
void scenario_groups_overlap(rank_test_t *test)
{
    enum { ROUNDS = 30, COUNT = 501 };
    const int pairs = test->size - 1;
    const bool ascends = suite_needs_one_order() || test->rank % 2 == 0;
    dpr_comm_group_t *groups[RANKS_MAX];
    dpr_stream_t *streams[RANKS_MAX];
    float *buffers[RANKS_MAX];
    for (int i = 0; i <= pairs; i++) {
        groups[i] = i < pairs ? make_group(test, &ascending[i], 2)
                              : make_group(test, ascending, test->size);
        streams[i] = groups[i] != NULL ? make_stream(test) : NULL;
        buffers[i] = make_memory(test, ROUNDS * COUNT * sizeof(float));
        for (size_t round = 0; round < ROUNDS; round++) {
            fill(buffers[i] + round * COUNT, DPR_ELEMENT_FLOAT, COUNT, test->rank);
        }
    }
    settle(test);
    for (size_t round = 0; round < ROUNDS; round++) {
        for (int i = 0; i <= pairs; i++) {
            const int g = ascends ? i : pairs - i;
            CHECK(test, groups[g] == NULL ||
                            dpr_group_allreduce_sum(groups[g], buffers[g] + round * COUNT, COUNT,
                                                    DPR_ELEMENT_FLOAT, 0.0, streams[g]) == DPR_OK);
        }
    }
    settle(test);
    for (int i = 0; i <= pairs; i++) {
        CHECK(test, groups[i] == NULL || dpr_stream_synchronize(streams[i]) == DPR_OK);
        for (size_t round = 0; round < ROUNDS && groups[i] != NULL; round++) {
            const int *ranks = i < pairs ? &ascending[i] : ascending;
            const int size = i < pairs ? 2 : test->size;
            const float *sum = buffers[i] + round * COUNT;
            CHECK(test, test->is_nccl ? is_near_sum_of(sum, DPR_ELEMENT_FLOAT, COUNT, ranks, size)
                                      : holds_sum_of(sum, DPR_ELEMENT_FLOAT, COUNT, ranks, size));
        }
        dpr_stream_destroy(streams[i]);
        dpr_group_close(groups[i]);
        free_memory(test, buffers[i]);
    }
}

void scenario_group_of_one(rank_test_t *test)
{
    const int last = test->size - 1;
    double buffer[3] = {1.0, -0.0, 3.0};
    const double before[3] = {1.0, -0.0, 3.0};
    dpr_comm_group_t *group = make_group(test, &last, 1);
    dpr_stream_t *stream = make_stream(test);
    dpr_event_t *end = make_event(test);
    CHECK(test, (group != NULL) == (test->rank == last));
    if (group != NULL) {
        CHECK(test, dpr_stream_charge(stream, 0.25) == DPR_OK);
        CHECK(test,
              dpr_group_allreduce_sum(group, buffer, 3, DPR_ELEMENT_DOUBLE, 0.5, stream) == DPR_OK);
        CHECK(test, dpr_event_record(end, stream) == DPR_OK);
        CHECK(test, dpr_stream_synchronize(stream) == DPR_OK);
        CHECK(test, memcmp(buffer, before, sizeof buffer) == 0);
        CHECK(test, dpr_event_sec(end) == 0.75);
    }
    dpr_stream_destroy(stream);
    dpr_event_destroy(end);
    dpr_group_close(group);
}

/* One member passes something else: all learn of it, none hangs, and the group stays in step. */
void scenario_allreduce_mismatch(rank_test_t *test)
{
    enum { COUNT = 40 };
    double *buffer = make_memory(test, COUNT * sizeof *buffer);
    memset(buffer, 0, COUNT * sizeof *buffer);
    dpr_comm_group_t *group = make_group(test, ascending, test->size);
    const bool odd_one = test->rank == test->size - 1;
    expect_errors(true);
    for (int kind = 0; kind < 2; kind++) {
        dpr_stream_t *stream = make_stream(test);
        const size_t count = odd_one && kind == 0 ? COUNT - 1 : COUNT;
        const dpr_element_t element = odd_one && kind == 1 ? DPR_ELEMENT_FLOAT : DPR_ELEMENT_DOUBLE;
        settle(test);
        CHECK(test, dpr_group_allreduce_sum(group, buffer, count, element, 0.0, stream) == DPR_OK);
        settle(test);
        CHECK(test, dpr_stream_synchronize(stream) == DPR_ERR_MISMATCH);
        dpr_stream_destroy(stream);
        stream = make_stream(test);
        reduce_once(test, group, ascending, test->size, DPR_ELEMENT_DOUBLE, COUNT, stream);
        dpr_stream_destroy(stream);
    }
    meet(test);
    expect_errors(false);
    dpr_group_close(group);
    free_memory(test, buffer);
}
