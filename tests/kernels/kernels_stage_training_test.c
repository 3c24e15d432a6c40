/* Stages put to use: training lowers the loss, and stages on streams of their own compute the same.
 */
#include <math.h>

#include "stage_rig.h"

static const dpr_model_config_t model = {.input = 12,
                                         .hidden = 32,
                                         .ffn = 64,
                                         .classes = 4,
                                         .blocks = 4,
                                         .micro_batch_size = 8,
                                         .seed = 3};

enum { MICRO_BATCHES = 4, STEPS = 20 };

static double total_loss(rig_t *rig)
{
    double *losses = rig_losses(rig);
    double sum = 0.0;
    for (int m = 0; m < rig->micro_batches; m++) {
        sum += losses[m];
    }
    test_free(losses);
    return sum;
}

typedef struct optimizer {
    array_t *velocity[RIG_STAGES];
    array_t *squares;
    array_t *factor;
} optimizer_t;

static void step(rig_t *rig, optimizer_t *o)
{
    dpr_kernels_t *kernels = rig->fixture->kernels;
    dpr_stream_t *stream = rig->fixture->stream;
    double *squares = o->squares->device;
    for (int s = 0; s < rig->stages; s++) {
        REQUIRE(kernels->sum_squares(kernels, stream, rig->layout[s].shape.parameters,
                                     dpr_stage_gradients(rig->stage[s]), squares + s));
    }
    REQUIRE(kernels->clip_factor(kernels, stream, rig->stages, squares, 1.0F, f32(o->factor)));
    for (int s = 0; s < rig->stages; s++) {
        const dpr_stage_shape_t *shape = &rig->layout[s].shape;
        float *gradients = dpr_stage_gradients(rig->stage[s]);
        REQUIRE(kernels->sgd(kernels, stream, shape->parameters, shape->decayed, 0.1F, 0.9F, 1e-4F,
                             f32(o->factor), gradients, f32(o->velocity[s]),
                             dpr_stage_parameters(rig->stage[s]),
                             dpr_stage_working(rig->stage[s])));
        REQUIRE(dpr_stream_fill(stream, gradients, 0, shape->parameters * sizeof(float)));
    }
}

/* The labels are random, so this is learning by heart: 32 samples, far more parameters. */
static void twenty_steps_of_sgd_lower_the_loss(void **state)
{
    fixture_t *f = *state;
    rig_t rig;
    rig_open(&rig, f, &model, 2, MICRO_BATCHES);
    optimizer_t optimizer = {.squares = fixture_doubles(f, RIG_STAGES),
                             .factor = fixture_floats(f, 1)};
    for (int s = 0; s < rig.stages; s++) {
        optimizer.velocity[s] = fixture_floats(f, rig.layout[s].shape.parameters);
    }
    rig_train(&rig);
    const double first = total_loss(&rig);
    assert_true(fabs(first - log(4.0)) < 0.1); /* nearly even probabilities at the start */
    for (int i = 0; i < STEPS; i++) {
        step(&rig, &optimizer);
        rig_train(&rig);
    }
    const double last = total_loss(&rig);
    if (!(last < 0.3 * first)) {
        fail_msg("the loss went from %.4f to %.4f in %d steps", first, last, STEPS);
    }
    rig_close(&rig);
    fixture_release(f);
}

/* A stage on each of two streams, micro-batches handed over by events alone. */
typedef struct pipeline {
    dpr_stream_t *stream[2];
    dpr_event_t *forward[MICRO_BATCHES];
    dpr_event_t *backward[MICRO_BATCHES];
} pipeline_t;

static void pipeline_open(pipeline_t *p, dpr_device_t *device, dpr_kernels_t *kernels)
{
    for (int s = 0; s < 2; s++) {
        REQUIRE(dpr_stream_create(device, s == 0 ? "lower" : "upper", 0, &p->stream[s]));
        REQUIRE(kernels->prepare(kernels, p->stream[s]));
    }
    for (int m = 0; m < MICRO_BATCHES; m++) {
        REQUIRE(dpr_event_create(device, &p->forward[m]));
        REQUIRE(dpr_event_create(device, &p->backward[m]));
    }
}

static void pipeline_close(pipeline_t *p)
{
    for (int s = 0; s < 2; s++) {
        REQUIRE(dpr_stream_synchronize(p->stream[s]));
        dpr_stream_destroy(p->stream[s]);
    }
    for (int m = 0; m < MICRO_BATCHES; m++) {
        dpr_event_destroy(p->forward[m]);
        dpr_event_destroy(p->backward[m]);
    }
}

static void pipeline_run(pipeline_t *p, rig_t *rig)
{
    dpr_stream_t *lower = p->stream[0];
    dpr_stream_t *upper = p->stream[1];
    for (int m = 0; m < MICRO_BATCHES; m++) {
        REQUIRE(dpr_stage_forward(rig->stage[0], lower, &rig->buffers[0][m], rig->loss_scale));
        REQUIRE(dpr_event_record(p->forward[m], lower));
    }
    for (int m = 0; m < MICRO_BATCHES; m++) {
        REQUIRE(dpr_stream_wait_event(upper, p->forward[m]));
        REQUIRE(dpr_stage_forward(rig->stage[1], upper, &rig->buffers[1][m], rig->loss_scale));
        REQUIRE(dpr_stage_backward_input(rig->stage[1], upper, &rig->buffers[1][m]));
        REQUIRE(dpr_event_record(p->backward[m], upper));
        REQUIRE(dpr_stage_backward_weight(rig->stage[1], upper, &rig->buffers[1][m]));
    }
    for (int m = 0; m < MICRO_BATCHES; m++) {
        REQUIRE(dpr_stream_wait_event(lower, p->backward[m]));
        REQUIRE(dpr_stage_backward(rig->stage[0], lower, &rig->buffers[0][m]));
    }
    REQUIRE(dpr_stream_synchronize(lower));
    REQUIRE(dpr_stream_synchronize(upper));
}

static void stages_on_streams_of_their_own_compute_the_same_bits(void **state)
{
    fixture_t *f = *state;
    rig_t alone;
    rig_open(&alone, f, &model, 2, MICRO_BATCHES);
    rig_train(&alone);
    for (int round = 0; round < 10; round++) {
        rig_t rig;
        pipeline_t pipeline;
        rig_open(&rig, f, &model, 2, MICRO_BATCHES);
        pipeline_open(&pipeline, f->device, f->kernels);
        pipeline_run(&pipeline, &rig);
        rig_expect_equal(&alone, &rig);
        pipeline_close(&pipeline);
        rig_close(&rig);
    }
    rig_close(&alone);
    fixture_release(f);
}

int main(int argc, char **argv)
{
    const int status = fixture_select(argc, argv);
    if (status != 0) {
        return status;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twenty_steps_of_sgd_lower_the_loss),
        cmocka_unit_test(stages_on_streams_of_their_own_compute_the_same_bits),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
