/* Plays a program on threads as ranks. */
#include "rig_impl.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "runtime/measure.h"
#include "runtime/watchdog.h"

/* ---- One rank ---- */

typedef struct rank_state {
    const rig_config_t *config;
    rig_result_t *result;
    dpr_comm_t *bootstrap; /* the local communicator */
    dpr_comm_t *comm;      /* the same, or NCCL's on top */
    atomic_bool *failed;   /* a rank's step has */
    int rank;
    dpr_status_t status;
    char messages[2048];
    dpr_device_t *device;
    dpr_kernels_t *kernels;
    dpr_pipeline_t *pipeline;
    dpr_optimizer_config_t optimizer;
    dpr_watchdog_t *watchdog;
    float *inputs;
    int32_t *labels;
    dpr_stream_t *fetch; /* of parameters and gradients, into `fetched` (pinned) */
    float *fetched;
    uint64_t *stage_hash; /* [S]: of gradients and parameters together, 0 where not held */
} rank_state_t;

static dpr_status_t create_host(rank_state_t *state)
{
    const rig_config_t *config = state->config;
    const dpr_host_device_options_t options = {
        .clock = config->clock,
        .chaos_seed = config->chaos_seed == 0 ? 0 : config->chaos_seed * 64 + (uint64_t)state->rank,
        .skew_sec = state->rank * config->skew_sec,
        .drift = state->rank * config->drift};
    DPR_TRY(dpr_host_device_create(&options, &state->device));
    return dpr_host_kernels_create(&state->kernels);
}

static dpr_status_t create_backends(rank_state_t *state)
{
    const rig_config_t *config = state->config;
    if (config->device == RIG_CUDA) {
        DPR_TRY(dpr_cuda_device_create(state->rank, config->clock, &state->device));
        DPR_TRY(dpr_cuda_kernels_create(state->device, config->model.dtype, &state->kernels));
    } else {
        DPR_TRY(create_host(state));
    }
    if (config->comm == RIG_NCCL) {
        DPR_TRY(dpr_comm_nccl_create(state->bootstrap, 0, &state->comm));
    }
    dpr_comm_set_device(state->comm, state->device);
    return DPR_OK;
}

static dpr_status_t create_pipeline(rank_state_t *state)
{
    const rig_config_t *config = state->config;
    rig_make_optimizer(&state->optimizer);
    const dpr_pipeline_options_t options = {
        .program = config->program,
        .graph = config->graph,
        .model = config->model,
        .comm = state->comm,
        .device = state->device,
        .kernels = state->kernels,
        .optimizer = config->update ? &state->optimizer : NULL,
        .total_steps = config->steps,
        .poison = config->poison,
        .memory_limit_bytes = config->memory_limit_bytes,
        .overlap = config->overlap,
        .record = config->record,
        .drop_wait = state->rank == config->drop_rank ? config->drop_wait : 0,
    };
    DPR_TRY(dpr_pipeline_create(&options, &state->pipeline));
    dpr_uniform_costs_fill(&config->costs, dpr_pipeline_graph(state->pipeline),
                           dpr_pipeline_cost(state->pipeline));
    return DPR_OK;
}

static dpr_status_t create_watchdog(rank_state_t *state)
{
    const rig_config_t *config = state->config;
    const dpr_watchdog_options_t options = {.comm = state->comm,
                                            .pipeline = state->pipeline,
                                            .timeout_sec = config->timeout_sec,
                                            .grace_sec = 0.1,
                                            .exit_code = config->watchdog_exit_code,
                                            .on_trip = config->on_trip,
                                            .describe = config->describe,
                                            .user = config->user};
    return config->timeout_sec > 0.0 ? dpr_watchdog_create(&options, &state->watchdog) : DPR_OK;
}

static size_t most_parameters(const dpr_pipeline_t *pipeline)
{
    const dpr_stage_shape_t *shapes = dpr_pipeline_shapes(pipeline);
    size_t most = 0;
    for (int s = 0; s < dpr_pipeline_graph(pipeline)->stages; s++) {
        most = shapes[s].parameters > most ? shapes[s].parameters : most;
    }
    return most;
}

static dpr_status_t create_buffers(rank_state_t *state)
{
    const rig_config_t *config = state->config;
    const size_t rows =
        (size_t)config->program->micro_batches * (size_t)config->model.micro_batch_size;
    DPR_TRY(dpr_calloc((size_t)config->program->stages, sizeof(uint64_t), &state->stage_hash));
    DPR_TRY(dpr_device_alloc(state->device, DPR_MEMORY_PINNED,
                             rows * (size_t)config->model.input * sizeof(float),
                             (void **)&state->inputs));
    DPR_TRY(dpr_device_alloc(state->device, DPR_MEMORY_PINNED, rows * sizeof(int32_t),
                             (void **)&state->labels));
    DPR_TRY(dpr_stream_create(state->device, "fetch", 0, &state->fetch));
    return dpr_device_alloc(state->device, DPR_MEMORY_PINNED,
                            most_parameters(state->pipeline) * sizeof(float),
                            (void **)&state->fetched);
}

static dpr_status_t rank_create(rank_state_t *state)
{
    DPR_TRY(dpr_comm_agree(state->bootstrap, create_backends(state), NULL));
    DPR_TRY(create_pipeline(state));
    if (state->config->inspect != NULL) {
        state->config->inspect(state->config->user, state->rank, state->pipeline);
    }
    DPR_TRY(dpr_comm_agree(state->bootstrap, create_buffers(state), NULL));
    return create_watchdog(state);
}

static void rank_destroy(rank_state_t *state)
{
    dpr_watchdog_destroy(state->watchdog);
    dpr_stream_destroy(state->fetch);
    dpr_pipeline_destroy(state->pipeline);
    if (state->device != NULL) {
        dpr_device_free(state->device, DPR_MEMORY_PINNED, state->inputs);
        dpr_device_free(state->device, DPR_MEMORY_PINNED, state->labels);
        dpr_device_free(state->device, DPR_MEMORY_PINNED, state->fetched);
    }
    dpr_kernels_destroy(state->kernels);
    if (state->comm != state->bootstrap) {
        dpr_comm_destroy(state->comm);
    }
    dpr_comm_destroy(state->bootstrap);
    dpr_device_destroy(state->device);
}

/* The device's floats, valid until the next call. */
static dpr_status_t fetch(rank_state_t *state, const float *from, size_t bytes)
{
    DPR_TRY(dpr_stream_copy(state->fetch, state->fetched, from, bytes));
    return dpr_stream_synchronize(state->fetch);
}

static dpr_status_t keep_stage(rank_state_t *state, int step, int s)
{
    dpr_stage_t *stage = dpr_pipeline_stage(state->pipeline, s);
    const size_t bytes = dpr_stage_get_shape(stage)->parameters * sizeof(float);
    DPR_TRY(fetch(state, dpr_stage_gradients(stage), bytes));
    state->stage_hash[s] = XXH3_64bits_withSeed(state->fetched, bytes, state->stage_hash[s]);
    if (dpr_pipeline_owner(state->pipeline, s) == state->rank) {
        float *copy = malloc(bytes);
        memcpy(copy, state->fetched, bytes);
        state->result->gradients[step * state->config->program->stages + s] = copy;
    }
    DPR_TRY(fetch(state, dpr_stage_parameters(stage), bytes));
    state->stage_hash[s] = XXH3_64bits_withSeed(state->fetched, bytes, state->stage_hash[s]);
    return DPR_OK;
}

static dpr_status_t keep_stages(rank_state_t *state, int step)
{
    for (int s = 0; s < state->config->program->stages; s++) {
        if (dpr_pipeline_stage(state->pipeline, s) != NULL) {
            DPR_TRY(keep_stage(state, step, s));
        }
    }
    return DPR_OK;
}

/* Loads a step's batch, with all ranks ready when it returns. */
static dpr_status_t rank_load(rank_state_t *state, int step, int slot)
{
    rig_make_batch(state->config, step, state->inputs, state->labels);
    DPR_TRY(dpr_pipeline_load(state->pipeline, slot, state->inputs, state->labels));
    DPR_TRY(dpr_pipeline_synchronize(state->pipeline));
    if (state->config->clock != DPR_CLOCK_WALL) {
        dpr_device_clock_rebase(state->device);
    }
    return dpr_comm_barrier(state->comm);
}

static size_t rank_count(const rank_state_t *state)
{
    return state->config->count != NULL && state->rank == 0 ? state->config->count() : 0;
}

static float loss_scale(const rig_config_t *config, int step)
{
    const float usual =
        1.0f / ((float)config->program->micro_batches * (float)config->model.micro_batch_size);
    return config->doubling_scale ? ldexpf(usual, step) : usual;
}

static int slot_of(const rig_config_t *config, int step)
{
    return config->one_slot ? 0 : step & 1;
}

/* The step itself, with nothing else going on in the process. */
static dpr_status_t rank_play(rank_state_t *state, int step)
{
    if (state->config->hold != NULL) {
        state->config->hold(state->config->user, state->rank, step);
    }
    DPR_TRY(dpr_pipeline_forward_backward(state->pipeline, slot_of(state->config, step),
                                          loss_scale(state->config, step)));
    DPR_TRY(dpr_pipeline_update(state->pipeline, step));
    return dpr_pipeline_synchronize(state->pipeline);
}

static dpr_status_t rank_step(rank_state_t *state, int step)
{
    dpr_pipeline_result_t result;
    dpr_timeline_t scratch = {0};
    dpr_timeline_t *timeline = &state->result->timelines[step];
    const size_t before = rank_count(state);
    DPR_TRY(dpr_comm_barrier(state->bootstrap)); /* nobody goes on before that was read */
    DPR_TRY(rank_load(state, step, slot_of(state->config, step)));
    const dpr_status_t played = rank_play(state, step);
    if (played != DPR_OK) {
        atomic_store(state->failed, true);
    }
    DPR_TRY(dpr_comm_barrier(state->bootstrap));
    if (atomic_load(state->failed)) {
        return played != DPR_OK ? played : DPR_ERR_COMM; /* every rank leaves */
    }
    if (state->rank == 0) {
        state->result->counted[step] = rank_count(state) - before;
    }
    DPR_TRY(dpr_comm_barrier(state->comm));
    dpr_pipeline_result(state->pipeline, &result);
    DPR_TRY(dpr_comm_agree(state->bootstrap, keep_stages(state, step), NULL));
    if (state->rank != 0) {
        DPR_TRY(dpr_timeline_init(&scratch, state->result->graph));
        timeline = &scratch;
    } else {
        state->result->loss[step] = result.loss;
    }
    const dpr_status_t status =
        dpr_measure_timeline(state->comm, dpr_pipeline_executor(state->pipeline), 0.0, timeline);
    dpr_timeline_free(&scratch);
    DPR_TRY(status);
    return dpr_comm_barrier(state->comm);
}

static dpr_status_t rank_evaluate(rank_state_t *state)
{
    dpr_pipeline_result_t result;
    DPR_TRY(rank_load(state, 0, 0));
    DPR_TRY(dpr_pipeline_evaluate(state->pipeline, 0, loss_scale(state->config, 0)));
    DPR_TRY(dpr_pipeline_synchronize(state->pipeline));
    dpr_pipeline_result(state->pipeline, &result);
    if (state->rank == 0) {
        state->result->evaluated_loss = result.loss;
        state->result->evaluated_correct = result.correct;
    }
    return DPR_OK;
}

static dpr_status_t rank_forecast(rank_state_t *state)
{
    const dpr_forecast_options_t options = {.pipeline = state->pipeline,
                                            .comm = state->comm,
                                            .device = state->device,
                                            .loss_scale = loss_scale(state->config, 0),
                                            .calibrate_steps = 6,
                                            .seed = 1};
    dpr_comm_set_device(state->comm, state->device);
    DPR_TRY(rank_load(state, 0, 0));
    DPR_TRY(dpr_pipeline_synchronize(state->pipeline));
    return state->config->forecast(state->config->user, state->rank, &options);
}

static void *rank_main(void *argument)
{
    rank_state_t *state = argument;
    size_t now;
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, state->messages, sizeof state->messages);
    state->status = rank_create(state);
    if (state->status == DPR_OK && state->config->forecast != NULL) {
        state->status = rank_forecast(state);
    }
    for (int k = 0; k < state->config->steps && state->status == DPR_OK; k++) {
        state->status = rank_step(state, k);
    }
    if (state->status == DPR_OK && !state->config->no_eval) {
        state->status = rank_evaluate(state);
    }
    if (state->device != NULL) {
        dpr_device_memory_usage(state->device, &now, &state->result->held_bytes[state->rank]);
    }
    rank_destroy(state);
    dpr_log_capture_end(&capture);
    return NULL;
}

/* ---- All ranks ---- */

static void result_init(const rig_config_t *config, rig_result_t *result)
{
    const size_t stages = (size_t)config->program->stages;
    assert(config->program->ranks <= RIG_MAX_RANKS && config->steps <= RIG_MAX_STEPS);
    *result = (rig_result_t){.stages = config->program->stages,
                             .steps = config->steps,
                             .ranks = config->program->ranks,
                             .replicas_equal = true};
    result->gradients = calloc(stages * (size_t)config->steps, sizeof(float *));
    result->held_bytes = calloc((size_t)result->ranks, sizeof(size_t));
    result->timelines = calloc((size_t)config->steps, sizeof(dpr_timeline_t));
    dpr_log_capture_t capture;
    dpr_log_capture_begin(&capture, result->messages, sizeof result->messages);
    result->status = dpr_graph_create(config->program, &config->graph, &result->graph);
    dpr_log_capture_end(&capture);
    for (int k = 0; k < config->steps && result->status == DPR_OK; k++) {
        result->status = dpr_timeline_init(&result->timelines[k], result->graph);
    }
    if (result->status == DPR_OK) {
        result->cost = calloc((size_t)result->graph->node_count, sizeof(double));
        dpr_uniform_costs_fill(&config->costs, result->graph, result->cost);
    }
}

/* Replicas' hashes must agree; the job's hash is over all stages. */
static void join_hashes(const rank_state_t *states, rig_result_t *result)
{
    for (int s = 0; s < result->stages; s++) {
        uint64_t seen = 0;
        for (int r = 0; r < result->ranks; r++) {
            const uint64_t hash = states[r].stage_hash != NULL ? states[r].stage_hash[s] : 0;
            if (hash != 0 && seen != 0 && hash != seen) {
                result->replicas_equal = false;
            }
            seen = hash != 0 ? hash : seen;
        }
        result->parameters_hash = dpr_random_mix(result->parameters_hash ^ seen);
    }
}

void rig_run(const rig_config_t *config, rig_result_t *result)
{
    const int ranks = config->program->ranks;
    dpr_comm_t *comms[RIG_MAX_RANKS];
    pthread_t threads[RIG_MAX_RANKS];
    static rank_state_t states[RIG_MAX_RANKS];
    atomic_bool failed = false;
    result_init(config, result);
    if (result->status != DPR_OK) {
        return;
    }
    memset(states, 0, sizeof states);
    if (config->device == RIG_CUDA) {
        dpr_cuda_environment(); /* as a program's main does */
    }
    if (dpr_comm_local_create(ranks, comms) != DPR_OK) {
        abort();
    }
    for (int r = 0; r < ranks; r++) {
        states[r].config = config;
        states[r].result = result;
        states[r].bootstrap = comms[r];
        states[r].comm = comms[r];
        states[r].failed = &failed;
        states[r].rank = r;
        if (pthread_create(&threads[r], NULL, rank_main, &states[r]) != 0) {
            abort();
        }
    }
    for (int r = 0; r < ranks; r++) {
        pthread_join(threads[r], NULL);
        if (result->status == DPR_OK) {
            result->status = states[r].status;
        }
        if (states[r].status != DPR_OK && result->messages[0] == '\0') {
            memcpy(result->messages, states[r].messages, sizeof states[r].messages);
        }
    }
    join_hashes(states, result);
    for (int r = 0; r < ranks; r++) {
        free(states[r].stage_hash);
    }
}

void rig_result_free(rig_result_t *result)
{
    for (int i = 0; i < result->stages * result->steps; i++) {
        free(result->gradients[i]);
    }
    for (int k = 0; result->timelines != NULL && k < result->steps; k++) {
        dpr_timeline_free(&result->timelines[k]);
    }
    free(result->gradients);
    free(result->timelines);
    free(result->held_bytes);
    free(result->cost);
    dpr_graph_destroy(result->graph);
}
