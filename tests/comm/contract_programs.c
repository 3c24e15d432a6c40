/*
 * Random programs of transfers, all-reduces, events and costs: every rank derives the same program
 * from the seed, enqueues its part in the program's order and compares
 *
 *   - the bytes received and the sums with what they must be,
 *   - under the model clock, the time of every step with the longest path, computed here; to the
 * bit.
 *
 * In program order no step waits for a later one, so no program deadlocks; with a chaos seed the
 * host device delays whatever may be delayed.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "comm_testing.h"

enum { STEPS = 60, STREAMS = 3, CHANNELS = 12, RANKS_MAX = 16, BYTES_MAX = 3000, SUM_MAX = 40 };

typedef enum step_kind { STEP_CHARGE, STEP_EVENT, STEP_TRANSFER, STEP_ALLREDUCE } step_kind_t;

/* A point of the program: a stream of a rank. */
typedef struct place {
    int rank;
    int stream;
} place_t;

typedef struct step {
    step_kind_t kind;
    place_t from; /* charge: the stream; event: recorded; transfer: sender */
    place_t to;   /* event: waiting; transfer: receiver */
    int channel;
    size_t size; /* bytes or elements */
    double cost_sec;
} step_t;

typedef struct program {
    place_t ends[CHANNELS][2];
    step_t steps[STEPS];
    double expected_sec[STEPS]; /* the longest path to the end of the step */
    double path_sec[RANKS_MAX][STREAMS];
} program_t;

static int draw(uint64_t seed, uint64_t stream, int index, int below)
{
    return (int)(dpr_random_bits(seed, stream, (uint64_t)index) % (uint64_t)below);
}

static place_t draw_place(uint64_t seed, uint64_t stream, int index, int size)
{
    return (place_t){.rank = draw(seed, stream, index, size),
                     .stream = draw(seed, stream + 1, index, STREAMS)};
}

static double later(double a, double b)
{
    return a > b ? a : b;
}

static step_t draw_step(const program_t *program, uint64_t seed, int index, int size)
{
    const int chance = draw(seed, 10, index, 100);
    step_t step = {.kind = chance < 15   ? STEP_CHARGE
                           : chance < 35 ? STEP_EVENT
                           : chance < 92 ? STEP_TRANSFER
                                         : STEP_ALLREDUCE,
                   .from = draw_place(seed, 11, index, size),
                   .to = draw_place(seed, 13, index, size),
                   .channel = draw(seed, 15, index, CHANNELS),
                   .cost_sec = dpr_random_uniform(seed, 16, (uint64_t)index)};
    if (size == 1 && step.kind == STEP_TRANSFER) {
        step.kind = STEP_CHARGE;
    }
    if (step.kind == STEP_EVENT) {
        step.to.rank = step.from.rank;
    } else if (step.kind == STEP_TRANSFER) {
        step.from = program->ends[step.channel][0];
        step.to = program->ends[step.channel][1];
        step.size = (size_t)draw(seed, 17, index, BYTES_MAX);
    } else if (step.kind == STEP_ALLREDUCE) {
        step.size = (size_t)draw(seed, 17, index, SUM_MAX);
    }
    return step;
}

/* Extends the longest path by a step; all-reduces are on stream 0 of every rank. */
static double follow_path(program_t *program, const step_t *step, int size)
{
    double *from = &program->path_sec[step->from.rank][step->from.stream];
    double *to = &program->path_sec[step->to.rank][step->to.stream];
    double end_sec = 0.0;
    switch (step->kind) {
    case STEP_CHARGE:
        *from += step->cost_sec;
        return *from;
    case STEP_EVENT:
        *to = later(*to, *from);
        return *to;
    case STEP_TRANSFER:
        *from = *to = later(*from, *to) + step->cost_sec;
        return *from;
    case STEP_ALLREDUCE:
        for (int rank = 0; rank < size; rank++) {
            end_sec = later(end_sec, program->path_sec[rank][0]);
        }
        for (int rank = 0; rank < size; rank++) {
            program->path_sec[rank][0] = end_sec + step->cost_sec;
        }
        return end_sec + step->cost_sec;
    }
    return 0.0;
}

static program_t *draw_program(uint64_t seed, int size)
{
    program_t *program = calloc(1, sizeof *program);
    for (int i = 0; i < CHANNELS && size > 1; i++) {
        program->ends[i][0] = draw_place(seed, 1, i, size);
        program->ends[i][1] = draw_place(seed, 3, i, size);
        program->ends[i][1].rank =
            (program->ends[i][0].rank + 1 + draw(seed, 5, i, size - 1)) % size;
    }
    for (int i = 0; i < STEPS; i++) {
        program->steps[i] = draw_step(program, seed, i, size);
        program->expected_sec[i] = follow_path(program, &program->steps[i], size);
    }
    return program;
}

/* A rank's part while it runs. */
typedef struct player {
    rank_test_t *test;
    const program_t *program;
    dpr_comm_channel_t *channels[CHANNELS];
    dpr_comm_group_t *all;
    dpr_stream_t *streams[STREAMS];
    dpr_event_t *links[STEPS];
    dpr_event_t *ends[STEPS]; /* recorded after this rank's part of a step */
    void *buffers[STEPS];
} player_t;

static double summand(int rank, int step, size_t index)
{
    return dpr_random_normal((uint64_t)rank, (uint64_t)step, index);
}

/* The sum in rank order to the bit; NCCL's, which adds in an order of its own, to rounding. */
static bool holds_sum(const double *buffer, size_t count, int step, const rank_test_t *test)
{
    for (size_t i = 0; i < count; i++) {
        double sum = summand(0, step, i);
        for (int rank = 1; rank < test->size; rank++) {
            sum += summand(rank, step, i);
        }
        if (test->is_nccl ? fabs(sum - buffer[i]) > 1e-12
                          : memcmp(&sum, &buffer[i], sizeof sum) != 0) {
            return false;
        }
    }
    return true;
}

/* Enqueues this rank's part of a step; returns the stream that it ends on, NULL if it has none. */
static dpr_stream_t *play_step(player_t *player, int index)
{
    rank_test_t *test = player->test;
    const step_t *step = &player->program->steps[index];
    const int me = test->rank;
    dpr_stream_t *from = player->streams[step->from.stream];
    dpr_stream_t *to = player->streams[step->to.stream];
    dpr_comm_channel_t *channel = player->channels[step->channel];
    void *buffer = player->buffers[index];
    if (step->kind == STEP_ALLREDUCE) {
        for (size_t i = 0; i < step->size; i++) {
            ((double *)buffer)[i] = summand(me, index, i);
        }
        CHECK(test, dpr_group_allreduce_sum(player->all, buffer, step->size, DPR_ELEMENT_DOUBLE,
                                            step->cost_sec, player->streams[0]) == DPR_OK);
        return player->streams[0];
    }
    if (step->kind == STEP_TRANSFER && step->from.rank == me) {
        fill_message(buffer, step->size, (message_t){me, step->to.rank, step->channel, index});
        CHECK(test, dpr_channel_send(channel, buffer, step->size, step->cost_sec, from) == DPR_OK);
        return from;
    }
    if (step->kind == STEP_TRANSFER && step->to.rank == me) {
        CHECK(test, dpr_channel_recv(channel, buffer, step->size, step->cost_sec, to) == DPR_OK);
        return to;
    }
    if (step->kind == STEP_CHARGE && step->from.rank == me) {
        CHECK(test, dpr_stream_charge(from, step->cost_sec) == DPR_OK);
        return from;
    }
    if (step->kind == STEP_EVENT && step->from.rank == me) {
        CHECK(test, dpr_event_record(player->links[index], from) == DPR_OK);
        CHECK(test, dpr_stream_wait_event(to, player->links[index]) == DPR_OK);
        return to;
    }
    return NULL;
}

static void check_step(player_t *player, int index)
{
    rank_test_t *test = player->test;
    const step_t *step = &player->program->steps[index];
    const void *buffer = player->buffers[index];
    const double end_sec = dpr_event_sec(player->ends[index]);
    if (dpr_device_clock(test->device) == DPR_CLOCK_MODEL) {
        CHECK(test, memcmp(&end_sec, &player->program->expected_sec[index], sizeof end_sec) == 0);
    }
    if (step->kind == STEP_TRANSFER) {
        CHECK(test,
              holds_message(buffer, step->size,
                            (message_t){step->from.rank, step->to.rank, step->channel, index}));
    } else if (step->kind == STEP_ALLREDUCE) {
        CHECK(test, holds_sum(buffer, step->size, index, test));
    }
}

static void set_up_player(player_t *player)
{
    rank_test_t *test = player->test;
    int ranks[RANKS_MAX];
    for (int i = 0; i < CHANNELS && test->size > 1; i++) {
        const place_t *ends = player->program->ends[i];
        player->channels[i] = make_channel(test, ends[0].rank, ends[1].rank, BYTES_MAX);
    }
    for (int rank = 0; rank < test->size; rank++) {
        ranks[rank] = rank;
    }
    player->all = make_group(test, ranks, test->size);
    for (int i = 0; i < STREAMS; i++) {
        player->streams[i] = make_stream(test);
    }
    for (int i = 0; i < STEPS; i++) {
        player->links[i] = make_event(test);
        player->ends[i] = make_event(test);
        player->buffers[i] = make_memory(test, player->program->steps[i].size * sizeof(double));
    }
}

static void tear_down_player(player_t *player)
{
    for (int i = 0; i < STREAMS; i++) {
        dpr_stream_destroy(player->streams[i]);
    }
    for (int i = 0; i < STEPS; i++) {
        dpr_event_destroy(player->links[i]);
        dpr_event_destroy(player->ends[i]);
        free_memory(player->test, player->buffers[i]);
    }
    for (int i = 0; i < CHANNELS; i++) {
        dpr_channel_close(player->channels[i]);
    }
    dpr_group_close(player->all);
}

void scenario_random_program(rank_test_t *test)
{
    program_t *program = draw_program(test->seed, test->size);
    player_t *player = calloc(1, sizeof *player);
    bool mine[STEPS];
    *player = (player_t){.test = test, .program = program};
    set_up_player(player);
    settle(test);
    for (int i = 0; i < STEPS; i++) {
        dpr_stream_t *end = play_step(player, i);
        mine[i] = end != NULL;
        if (mine[i]) {
            CHECK(test, dpr_event_record(player->ends[i], end) == DPR_OK);
        }
    }
    settle(test);
    for (int i = 0; i < STREAMS; i++) {
        CHECK(test, dpr_stream_synchronize(player->streams[i]) == DPR_OK);
    }
    for (int i = 0; i < STEPS; i++) {
        if (mine[i]) {
            check_step(player, i);
        }
    }
    tear_down_player(player);
    free(player);
    free(program);
}
