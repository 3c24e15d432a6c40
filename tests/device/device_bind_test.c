/* Binding near a device: within what the process may use, and nowhere where the node is unknown. */
#include "device_testing.h"

#include <sched.h>
#include <string.h>

#include "base/log.h"
#include "device/device_impl.h"

/* A device of which only the NUMA node matters. */
typedef struct placed_device {
    dpr_device_t base;
    int numa_node;
} placed_device_t;

static void info(const dpr_device_t *device, dpr_device_info_t *info)
{
    *info = (dpr_device_info_t){.numa_node = ((const placed_device_t *)device)->numa_node};
}

static const dpr_device_ops_t ops = {.kind = "placed", .info = info};

/* Binds near a device on `node`; `after` is what the process may use then. */
static dpr_status_t bind_near(int node, cpu_set_t *after)
{
    const placed_device_t device = {.base.ops = &ops, .numa_node = node};
    const dpr_status_t status = dpr_device_bind_near(&device.base);
    assert_int_equal(sched_getaffinity(0, sizeof *after, after), 0);
    return status;
}

static void binding_takes_cores_away_and_adds_none(void **state)
{
    (void)state;
    cpu_set_t before;
    cpu_set_t after;
    cpu_set_t both;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_ok(bind_near(0, &after));
    CPU_AND(&both, &before, &after);
    assert_true(CPU_EQUAL(&both, &after));
    assert_true(CPU_COUNT(&after) > 0);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void an_unknown_node_binds_nowhere(void **state)
{
    (void)state;
    cpu_set_t before;
    cpu_set_t after;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_ok(bind_near(-1, &after));
    assert_true(CPU_EQUAL(&before, &after));
    assert_ok(bind_near(12345, &after));
    assert_true(CPU_EQUAL(&before, &after));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binding_takes_cores_away_and_adds_none),
        cmocka_unit_test(an_unknown_node_binds_nowhere),
    };
    return cmocka_run_group_tests_name("device_bind", tests, NULL, NULL);
}
