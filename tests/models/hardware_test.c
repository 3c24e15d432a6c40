/* Machines as numbers: times, ranges, and the description files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "runtime/hardware_file.h"
#include "tests/models/extremes.h"
#include "tests/models/machine.h"

static const char *folder; /* hardware/ of the repository */

static void times_follow_from_the_rates(void **state)
{
    (void)state;
    dpr_hardware_t hardware = plain_machine();
    hardware.memory_bandwidth_bytes_per_sec = 100.0;
    hardware.memory_fraction = 0.25;
    hardware.link_fraction = 0.5;
    hardware.node_link = (dpr_hardware_link_t){2.0, 10.0};
    assert_close(dpr_hardware_work_sec(&hardware, DPR_PRECISION_FP32, 3e9, 50.0), 3.0);
    assert_close(dpr_hardware_work_sec(&hardware, DPR_PRECISION_BF16, 3e9, 50.0), 2.0);
    assert_close(dpr_hardware_work_sec(&hardware, DPR_PRECISION_FP32, 1e9, 50.0), 2.0);
    assert_close(dpr_hardware_transfer_sec(&hardware, &hardware.node_link, 20.0), 6.0);
    assert_close(dpr_hardware_all_reduce_sec(&hardware, &hardware.node_link, 4, 40.0),
                 6 * (2.0 + 10.0 / 5.0));
    assert_true(dpr_hardware_all_reduce_sec(&hardware, &hardware.node_link, 1, 40.0) == 0.0);
    assert_ptr_equal(dpr_hardware_link_between(&hardware, 0, 3), &hardware.node_link);
    assert_ptr_equal(dpr_hardware_link_between(&hardware, 3, 4), &hardware.network_link);
    assert_ptr_equal(dpr_hardware_link_between(&hardware, 7, 4), &hardware.node_link);
}

static void every_field_has_its_range(void **state)
{
    (void)state;
    dice_t dice = {.seed = 2};
    int accepted = 0;
    for (int i = 0; i < 20000; i++) {
        dpr_hardware_t hardware = plain_machine();
        double *const reals[] = {&hardware.peak_flops_per_sec[0],
                                 &hardware.flops_fraction,
                                 &hardware.memory_bytes,
                                 &hardware.memory_bandwidth_bytes_per_sec,
                                 &hardware.memory_fraction,
                                 &hardware.op_overhead_sec,
                                 &hardware.node_link.latency_sec,
                                 &hardware.node_link.bandwidth_bytes_per_sec,
                                 &hardware.network_link.latency_sec,
                                 &hardware.network_link.bandwidth_bytes_per_sec,
                                 &hardware.link_fraction};
        *reals[i % 11] = extreme_real(&dice);
        char message[CAPTURED_MAX];
        dpr_status_t status;
        CAPTURE(status, message, dpr_hardware_check(&hardware));
        if (status == DPR_OK) {
            accepted++;
            assert_sane(*reals[i % 11]);
            assert_sane(dpr_hardware_work_sec(&hardware, DPR_PRECISION_BF16, 1e18, 1e18));
            assert_sane(dpr_hardware_transfer_sec(&hardware, &hardware.network_link, 1e18));
        } else {
            assert_contains(message, "expected");
        }
    }
    assert_true(accepted > 1000);
    dpr_hardware_t none = plain_machine();
    none.peak_flops_per_sec[0] = none.peak_flops_per_sec[2] = 0.0;
    char message[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, message, dpr_hardware_check(&none));
    assert_int_equal(status, DPR_ERR_INVALID);
}

static dpr_hardware_t read_shipped(const char *name)
{
    char path[512];
    dpr_hardware_t hardware;
    assert_int_equal(dpr_hardware_find(name, folder, path, sizeof path), DPR_OK);
    assert_int_equal(dpr_hardware_read(path, &hardware), DPR_OK);
    return hardware;
}

static void the_shipped_files_are_complete(void **state)
{
    (void)state;
    unsetenv("DPR_HARDWARE_DIR");
    const struct {
        const char *name;
        double bf16;
        double memory_bytes;
        double node_bandwidth;
    } all[] = {
        {"h100", 989.5e12, 80e9, 450e9}, {"h200", 989.5e12, 141e9, 450e9},
        {"a100", 312e12, 80e9, 300e9},   {"b200", 2250e12, 180e9, 900e9},
        {"cpu-generic", 0.0, 4e9, 5e9},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const dpr_hardware_t hardware = read_shipped(all[i].name);
        assert_close(hardware.peak_flops_per_sec[DPR_PRECISION_BF16], all[i].bf16);
        assert_close(hardware.memory_bytes, all[i].memory_bytes);
        assert_close(hardware.node_link.bandwidth_bytes_per_sec, all[i].node_bandwidth);
        assert_true(hardware.peak_flops_per_sec[DPR_PRECISION_FP32] > 0.0);
    }
}

static void what_is_written_is_read_bit_by_bit(void **state)
{
    (void)state;
    const dpr_hardware_sources_t sources = {"measured", "assumed", "none"};
    dpr_hardware_t hardware = real_machine();
    hardware.peak_flops_per_sec[1] = 0.0;
    hardware.op_overhead_sec = 1.0 / 3.0 * 1e-5;
    char path[] = "hardware_test_XXXXXX";
    const int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    assert_int_equal(dpr_hardware_write(&hardware, &sources, path), DPR_OK);
    dpr_hardware_t read;
    assert_int_equal(dpr_hardware_read(path, &read), DPR_OK);
    unlink(path);
    assert_string_equal(read.name, hardware.name);
    assert_true(read.op_overhead_sec == hardware.op_overhead_sec);
    assert_true(read.peak_flops_per_sec[1] == 0.0);
    assert_true(read.peak_flops_per_sec[2] == hardware.peak_flops_per_sec[2]);
    assert_true(read.network_link.bandwidth_bytes_per_sec ==
                hardware.network_link.bandwidth_bytes_per_sec);
    assert_int_equal(read.devices_per_node, hardware.devices_per_node);
    char message[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, message, dpr_hardware_write(&hardware, &sources, "/nowhere/x.json"));
    assert_int_equal(status, DPR_ERR_IO);
}

/* The whole description of cpu-generic with one part of it replaced. */
static void expect_refused(const char *part, const char *replacement, dpr_status_t expected,
                           const char *complaint)
{
    char path[512];
    snprintf(path, sizeof path, "%s/cpu-generic.json", folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    static char text[1 << 14];
    static char changed[1 << 15];
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    const char *at = strstr(text, part);
    if (at == NULL) {
        print_error("'%s' is not in the file\n", part);
        fail();
    }
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, replacement,
             at + strlen(part));
    dpr_hardware_t hardware;
    char message[CAPTURED_MAX];
    dpr_status_t status;
    CAPTURE(status, message, dpr_hardware_parse("test.json", changed, &hardware));
    assert_int_equal(status, expected);
    assert_contains(message, complaint);
}

static void bad_descriptions_are_refused_with_the_key(void **state)
{
    (void)state;
    expect_refused("{", "[", DPR_ERR_PARSE, "test.json");
    expect_refused("dualpipe-hardware", "other", DPR_ERR_DATA, "'format' must be");
    expect_refused("\"version\": 1", "\"version\": 2", DPR_ERR_DATA, "version");
    expect_refused("\"comment\"", "\"remark\"", DPR_ERR_DATA, "unknown key");
    expect_refused("\"fp32\"", "\"fp64\"", DPR_ERR_DATA, "peak_flops_per_sec.fp64");
    expect_refused("\"value\": 0.7", "\"value\": \"0.7\"", DPR_ERR_DATA, "flops_fraction.value");
    expect_refused("\"value\": 0.7", "\"value\": -0.7", DPR_ERR_DATA, "at least 0");
    expect_refused("\"value\": 0.7", "\"value\": 1.1", DPR_ERR_INVALID, "flops fraction is 1.1");
    expect_refused("\"value\": 4e9", "\"value\": 0", DPR_ERR_INVALID, "memory_bytes is 0");
    expect_refused("\"value\": 32", "\"value\": 0", DPR_ERR_DATA, "devices_per_node.value");
    expect_refused("\"value\": 32", "\"value\": 1.5", DPR_ERR_DATA, "devices_per_node.value");
    expect_refused("\"memory_bytes\"", "\"memory_bite\"", DPR_ERR_DATA, "unknown key");
    expect_refused("\"latency_sec\"", "\"latency\"", DPR_ERR_DATA, "node_link.latency");
    expect_refused("\"source\"", "\"sauce\"", DPR_ERR_DATA, "unknown key");
    expect_refused("\"assumption: 4 GB for each core\"", "\"\"", DPR_ERR_DATA,
                   "where the figure comes from");
}

static void what_is_not_there_is_said(void **state)
{
    (void)state;
    char path[64];
    char message[CAPTURED_MAX];
    dpr_status_t status;
    setenv("DPR_HARDWARE_DIR", "/nowhere", 1);
    CAPTURE(status, message, dpr_hardware_find("z999", "/neither", path, sizeof path));
    assert_int_equal(status, DPR_ERR_IO);
    assert_contains(message, "hardware 'z999': no such file, and no z999.json in /nowhere or "
                             "/neither");
    unsetenv("DPR_HARDWARE_DIR");
    dpr_hardware_t hardware;
    CAPTURE(status, message, dpr_hardware_read("/nowhere/z.json", &hardware));
    assert_int_equal(status, DPR_ERR_IO);
    dpr_precision_t precision;
    assert_int_equal(dpr_precision_parse("tf32", &precision), DPR_OK);
    assert_int_equal(precision, DPR_PRECISION_TF32);
    CAPTURE(status, message, dpr_precision_parse("fp8", &precision));
    assert_int_equal(status, DPR_ERR_INVALID);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_follow_from_the_rates),
        cmocka_unit_test(every_field_has_its_range),
        cmocka_unit_test(the_shipped_files_are_complete),
        cmocka_unit_test(what_is_written_is_read_bit_by_bit),
        cmocka_unit_test(bad_descriptions_are_refused_with_the_key),
        cmocka_unit_test(what_is_not_there_is_said),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: hardware_test FOLDER\n");
        return 2;
    }
    folder = argv[1];
    return cmocka_run_group_tests_name("hardware", tests, NULL, NULL);
}
