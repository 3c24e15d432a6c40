/* Forecasts made on a pipeline of several ranks: whatever their clocks say, and of what they are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "rig.h"
#include "schedule/generators.h"

enum { RANKS = 3 };

/* What each rank's thread found. */
typedef struct found {
    double span_sec[RANKS];
    double typical_sec[RANKS];
    double calibrated_sec[RANKS]; /* the whole calibration, by the rank's own clock */
    bool is_sound[RANKS];         /* every cost and delay is finite and at least 0 */
} found_t;

static double last_end(const dpr_timeline_t *timeline)
{
    double last = 0.0;
    for (int32_t n = 0; n < timeline->graph->node_count; n++) {
        last = fmax(last, timeline->end[n]);
    }
    return last;
}

static dpr_status_t make_forecast(void *user, int rank, const dpr_forecast_options_t *options)
{
    found_t *found = user;
    dpr_forecast_t forecast;
    const double begin_sec = dpr_device_wall_sec(options->device);
    const dpr_status_t status = dpr_forecast_make(options, &forecast);
    if (status == DPR_OK) {
        found->calibrated_sec[rank] = dpr_device_wall_sec(options->device) - begin_sec;
        found->span_sec[rank] = forecast.promised.span_sec;
        found->typical_sec[rank] = last_end(&forecast.typical);
        found->is_sound[rank] = true;
        for (int32_t n = 0; n < forecast.graph->node_count; n++) {
            const double sec[] = {forecast.mean_cost[n], forecast.typical_cost[n],
                                  forecast.typical_delay_sec[n]};
            for (size_t i = 0; i < sizeof sec / sizeof sec[0]; i++) {
                found->is_sound[rank] &= isfinite(sec[i]) && sec[i] >= 0.0;
            }
        }
    }
    dpr_forecast_free(&forecast);
    return status;
}

static void forecast_with(dpr_clock_t clock, double skew_sec, double drift, found_t *found)
{
    dpr_program_t program;
    rig_config_t config;
    rig_result_t result;
    assert_int_equal(dpr_schedule_generate("1f1b", RANKS, 5, &program), DPR_OK);
    memset(found, 0, sizeof *found);
    rig_config_default(&config, &program);
    config.clock = clock;
    config.steps = 1;
    config.skew_sec = skew_sec;
    config.drift = drift;
    config.forecast = make_forecast;
    config.user = found;
    rig_run(&config, &result);
    if (result.status != DPR_OK) {
        print_error("%s\n", result.messages);
    }
    assert_int_equal(result.status, DPR_OK);
    for (int rank = 0; rank < RANKS; rank++) {
        assert_true(found->is_sound[rank]);
        assert_true(found->span_sec[rank] > 0.0);
        assert_true(found->span_sec[rank] == found->span_sec[0]); /* all ranks promise the same */
        assert_true(found->typical_sec[rank] == found->typical_sec[0]);
    }
    rig_result_free(&result);
    dpr_program_free(&program);
}

/* Clocks an hour apart that gain half a second a second: a step that is forecast takes no longer
 * than all of calibration did, by any of the clocks. */
static void clocks_that_are_wrong_are_corrected(void **state)
{
    (void)state;
    found_t found;
    forecast_with(DPR_CLOCK_WALL, 3600.0, 0.5, &found);
    assert_true(found.span_sec[0] < found.calibrated_sec[0]);
    assert_true(found.typical_sec[0] < found.calibrated_sec[0]);
    forecast_with(DPR_CLOCK_WALL, -3600.0, -0.25, &found);
    assert_true(found.span_sec[0] < found.calibrated_sec[0]);
    assert_true(found.typical_sec[0] < found.calibrated_sec[0]);
}

static void virtual_clocks_need_no_correction(void **state)
{
    (void)state;
    found_t found;
    forecast_with(DPR_CLOCK_CORE, 3600.0, 0.5, &found);
    assert_true(found.span_sec[0] < 60.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clocks_that_are_wrong_are_corrected),
        cmocka_unit_test(virtual_clocks_need_no_correction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
