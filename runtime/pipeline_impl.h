/*
 * The pipeline's own data, shared by pipeline.c and pipeline_links.c (creation), pipeline_step.c
 * (steps), pipeline_watch.c (a step seen from outside) and nothing else.
 */
#ifndef DPR_RUNTIME_PIPELINE_IMPL_H
#define DPR_RUNTIME_PIPELINE_IMPL_H

#include <stdatomic.h>

#include "runtime/pipeline.h"

/* The ranks that hold the same stages, where there are two: they sum gradients of these stages. */
typedef struct replica_group {
    dpr_comm_group_t *group; /* NULL on other ranks */
    int ranks[2];
} replica_group_t;

/* One direction of use: training or evaluation. */
typedef struct play {
    dpr_graph_t *graph;
    dpr_arena_t arena;
    dpr_link_t *links; /* [channel_count] */
    double *cost;      /* [node_count] */
    dpr_executor_t *executor;
} play_t;

/* A step as it was recorded, for one batch buffer. */
typedef struct recorded_step {
    dpr_recording_t *recording; /* NULL before the first */
    float loss_scale;
} recorded_step_t;

/* How far the step under way has been enqueued. */
typedef enum pipeline_phase {
    PHASE_TRAIN,    /* the program, or some of it */
    PHASE_REDUCED,  /* and the sum of replicas' gradients */
    PHASE_SHARED,   /* and the sum of the statistics */
    PHASE_UPDATED,  /* and the optimizer */
    PHASE_EVALUATE, /* the program forward only, or some of it */
    PHASE_EVALUATED /* and the sum of the statistics */
} pipeline_phase_t;

/* Where the step under way stands: written by the thread that enqueues, read by any. */
typedef struct pipeline_activity {
    _Atomic uint64_t count;   /* pipeline.h */
    _Atomic int phase;        /* pipeline_phase_t */
    _Atomic double since_sec; /* of dpr_executor_describe_waits */
} pipeline_activity_t;

struct dpr_pipeline {
    dpr_pipeline_options_t options;
    int rank;
    int32_t *holders; /* [S][2] */
    dpr_stage_shape_t *shapes;
    dpr_stage_t **stages;         /* [S], NULL where not held */
    dpr_optimizer_t **optimizers; /* [S], likewise */

    play_t train;
    play_t eval;
    void *arena_base;
    dpr_pipeline_memory_t memory;
    dpr_comm_needs_t comm_needs; /* of this rank's channels and groups */

    bool has_second;
    dpr_stream_t *compute;
    dpr_stream_t *second; /* for the backward of F&B; NULL: none */
    dpr_stream_t *load;

    int replica_count;
    replica_group_t *replicas;
    dpr_comm_group_t *world;

    bool *needs_inputs; /* [M] */
    bool *needs_labels;
    bool any_inputs;
    bool any_labels;
    size_t input_stride; /* floats */
    size_t label_stride;
    float *inputs[2]; /* device memory, NULL where not needed */
    int32_t *labels[2];

    /* [S] squares of the stages' gradient norms, then [M][2] results; every entry is written by one
     * rank and 0 on all others, so that their sum over the ranks is exact. */
    double *stats;
    double *stats_host; /* pinned */
    size_t stats_count;
    float *clip_factor; /* device memory */

    double reduction_latency_sec;
    double reduction_sec_per_byte;
    dpr_event_t *played;
    dpr_event_t *reduced;
    dpr_event_t *shared;
    dpr_event_t *updated;
    recorded_step_t recorded[2];
    pipeline_activity_t activity;
    bool evaluated; /* the last thing enqueued was an evaluation */
};

/* pipeline_links.c */
dpr_status_t pipeline_create_streams(dpr_pipeline_t *pipeline);
dpr_status_t pipeline_create_links(dpr_pipeline_t *pipeline);  /* collective */
dpr_status_t pipeline_create_groups(dpr_pipeline_t *pipeline); /* collective */
void pipeline_destroy_links(dpr_pipeline_t *pipeline);         /* and the streams */

/* pipeline_warm.c: uses every kernel once; before any channel carries anything. */
dpr_status_t pipeline_warm_up(dpr_pipeline_t *pipeline);
/* Takes every sum of a step once, where that is the first use of a connection; collective. */
dpr_status_t pipeline_warm_sums(dpr_pipeline_t *pipeline);

/* pipeline_step.c: enqueues the sums of a step over the ranks, of zeros; collective. */
dpr_status_t pipeline_enqueue_sums(dpr_pipeline_t *pipeline);

#endif
