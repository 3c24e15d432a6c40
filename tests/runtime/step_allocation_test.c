/*
 * A step allocates nothing: not the scheduler, not the device, not the kernels and OpenBLAS beneath
 * them, not the communicator. Under sanitizers, which bring their own malloc, there is nothing to
 * test here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "allocations.h"
#include "rig.h"
#include "schedule/generators.h"

static void a_step_after_the_first_allocates_nothing(void **state)
{
    (void)state;
    static const char *const schedules[] = {"gpipe", "1f1b", "zb1p", "dualpipe", "dualpipev"};
    for (size_t i = 0; i < sizeof schedules / sizeof schedules[0]; i++) {
        dpr_program_t program;
        rig_config_t config;
        rig_result_t result;
        assert_int_equal(dpr_schedule_generate(schedules[i], 4, 8, &program), DPR_OK);
        rig_config_default(&config, &program);
        config.steps = 4;
        config.count = allocations_so_far;
        config.overlap = DPR_OVERLAP_ON;
        rig_run(&config, &result);
        assert_int_equal(result.status, DPR_OK);
        assert_true(allocations_so_far() > 0); /* the counter is at work */
        for (int k = 1; k < config.steps; k++) {
            print_message("%s, step %d: %zu allocations\n", schedules[i], k, result.counted[k]);
            assert_int_equal(result.counted[k], 0);
        }
        rig_result_free(&result);
        dpr_program_free(&program);
    }
}

int main(void)
{
    if (!allocations_are_counted()) {
        return EXIT_SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_after_the_first_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
