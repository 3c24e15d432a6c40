/* Reads and writes hardware descriptions: one table of figures for both. */
#include "runtime/hardware_file.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/json_reader.h"

enum { FORMAT_VERSION = 1 };
static const char format_name[] = "dualpipe-hardware";

/* Where a figure stands in the file and in the struct. */
typedef struct figure {
    const char *group; /* the object it is in; NULL: the top */
    const char *key;
    size_t offset;
    bool is_optional;
    bool is_assumed; /* what is written of a measured machine */
} figure_t;

#define FIGURE(group, key, member, optional, assumed)                                              \
    {                                                                                              \
        group, key, offsetof(dpr_hardware_t, member), optional, assumed                            \
    }

static const figure_t figures[] = {
    FIGURE("peak_flops_per_sec", "fp32", peak_flops_per_sec[DPR_PRECISION_FP32], true, false),
    FIGURE("peak_flops_per_sec", "tf32", peak_flops_per_sec[DPR_PRECISION_TF32], true, false),
    FIGURE("peak_flops_per_sec", "bf16", peak_flops_per_sec[DPR_PRECISION_BF16], true, false),
    FIGURE(NULL, "flops_fraction", flops_fraction, false, true),
    FIGURE(NULL, "memory_bytes", memory_bytes, false, false),
    FIGURE(NULL, "memory_bandwidth_bytes_per_sec", memory_bandwidth_bytes_per_sec, false, false),
    FIGURE(NULL, "memory_fraction", memory_fraction, false, true),
    FIGURE(NULL, "op_overhead_sec", op_overhead_sec, false, false),
    FIGURE("node_link", "latency_sec", node_link.latency_sec, false, true),
    FIGURE("node_link", "bandwidth_bytes_per_sec", node_link.bandwidth_bytes_per_sec, false, false),
    FIGURE("network_link", "latency_sec", network_link.latency_sec, false, true),
    FIGURE("network_link", "bandwidth_bytes_per_sec", network_link.bandwidth_bytes_per_sec, false,
           true),
    FIGURE(NULL, "link_fraction", link_fraction, false, true),
};

enum { FIGURES = sizeof figures / sizeof figures[0], MAX_DEVICES_PER_NODE = 4096 };

static const char top_keys[] =
    "format, version, name, comment, peak_flops_per_sec, flops_fraction, memory_bytes, "
    "memory_bandwidth_bytes_per_sec, memory_fraction, op_overhead_sec, devices_per_node, "
    "node_link, network_link, link_fraction";

/* ---- Reading ---- */

/* {"value": number, "source": "where it comes from"} */
static dpr_status_t read_sourced(const dpr_json_source_t *source, const char *where, json_t *object,
                                 double *value)
{
    DPR_TRY(dpr_json_check_object(source, where, object, "value, source"));
    const json_t *from = json_object_get(object, "source");
    if (!json_is_string(from) || json_string_length(from) == 0) {
        return dpr_json_fail(source, where, "'source' must say where the figure comes from");
    }
    const json_t *number = json_object_get(object, "value");
    if (number == NULL) {
        return dpr_json_fail(source, where, "'value' is missing");
    }
    return dpr_json_number(source, dpr_json_key(where, "value").text, number, value);
}

static dpr_status_t read_figure(const dpr_json_source_t *source, json_t *root,
                                const figure_t *figure, dpr_hardware_t *hardware)
{
    const char *group = figure->group != NULL ? figure->group : "";
    const json_t *parent = figure->group != NULL ? json_object_get(root, figure->group) : root;
    json_t *object = json_object_get(parent, figure->key);
    if (object == NULL) {
        return figure->is_optional ? DPR_OK
                                   : dpr_json_fail(source, group, "'%s' is missing", figure->key);
    }
    double value;
    DPR_TRY(read_sourced(source, dpr_json_key(group, figure->key).text, object, &value));
    memcpy((char *)hardware + figure->offset, &value, sizeof value);
    return DPR_OK;
}

static dpr_status_t check_heads(const dpr_json_source_t *source, json_t *root)
{
    int version;
    DPR_TRY(dpr_json_check_object(source, "", root, top_keys));
    const json_t *format = json_object_get(root, "format");
    if (!json_is_string(format) || strcmp(json_string_value(format), format_name) != 0) {
        return dpr_json_fail(source, "", "'format' must be \"%s\"", format_name);
    }
    DPR_TRY(
        dpr_json_integer(source, "", root, "version", FORMAT_VERSION, FORMAT_VERSION, &version));
    const json_t *comment = json_object_get(root, "comment");
    if (comment != NULL && !json_is_string(comment)) {
        return dpr_json_fail(source, "comment", "expected a string");
    }
    DPR_TRY(dpr_json_check_object(source, "peak_flops_per_sec",
                                  json_object_get(root, "peak_flops_per_sec"), "fp32, tf32, bf16"));
    static const char link_keys[] = "latency_sec, bandwidth_bytes_per_sec";
    DPR_TRY(
        dpr_json_check_object(source, "node_link", json_object_get(root, "node_link"), link_keys));
    return dpr_json_check_object(source, "network_link", json_object_get(root, "network_link"),
                                 link_keys);
}

static dpr_status_t read_name(const dpr_json_source_t *source, const json_t *root,
                              dpr_hardware_t *hardware)
{
    const json_t *name = json_object_get(root, "name");
    if (!json_is_string(name) || json_string_length(name) == 0 ||
        json_string_length(name) >= sizeof hardware->name) {
        return dpr_json_fail(source, "name", "expected a string of 1 to %zu characters",
                             sizeof hardware->name - 1);
    }
    strcpy(hardware->name, json_string_value(name));
    return DPR_OK;
}

static dpr_status_t read_devices(const dpr_json_source_t *source, json_t *root,
                                 dpr_hardware_t *hardware)
{
    static const char key[] = "devices_per_node";
    json_t *object = json_object_get(root, key);
    double value;
    DPR_TRY(read_sourced(source, key, object, &value));
    return dpr_json_integer(source, key, object, "value", 1, MAX_DEVICES_PER_NODE,
                            &hardware->devices_per_node);
}

static dpr_status_t read_root(const dpr_json_source_t *source, json_t *root,
                              dpr_hardware_t *hardware)
{
    DPR_TRY(check_heads(source, root));
    DPR_TRY(read_name(source, root, hardware));
    for (int i = 0; i < FIGURES; i++) {
        DPR_TRY(read_figure(source, root, &figures[i], hardware));
    }
    DPR_TRY(read_devices(source, root, hardware));
    return dpr_hardware_check(hardware);
}

dpr_status_t dpr_hardware_parse(const char *name, const char *text, dpr_hardware_t *hardware)
{
    const dpr_json_source_t source = {name, text};
    dpr_hardware_t read = {0};
    json_t *root;
    DPR_TRY(dpr_json_parse(&source, &root));
    const dpr_status_t status = read_root(&source, root, &read);
    json_decref(root);
    if (status == DPR_OK) {
        *hardware = read;
    }
    return status;
}

dpr_status_t dpr_hardware_read(const char *path, dpr_hardware_t *hardware)
{
    char *text;
    DPR_TRY(dpr_json_read_file(path, &text));
    const dpr_status_t status = dpr_hardware_parse(path, text, hardware);
    free(text);
    return status;
}

dpr_status_t dpr_hardware_find(const char *text, const char *folder, char *path, size_t size)
{
    const char *places[] = {getenv("DPR_HARDWARE_DIR"), folder};
    snprintf(path, size, "%s", text);
    if (strlen(text) < size && access(path, R_OK) == 0) {
        return DPR_OK;
    }
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const int length =
            places[i] != NULL ? snprintf(path, size, "%s/%s.json", places[i], text) : -1;
        if (length > 0 && (size_t)length < size && access(path, R_OK) == 0) {
            return DPR_OK;
        }
    }
    return dpr_fail(DPR_ERR_IO, "hardware '%.200s': no such file, and no %.200s.json in %s%s%s",
                    text, text, places[0] != NULL ? places[0] : "", places[0] != NULL ? " or " : "",
                    folder);
}

/* ---- Writing ---- */

static int set_sourced(json_t *parent, const char *key, json_t *value, const char *from)
{
    json_t *object = json_object();
    const int failed = json_object_set_new(object, "value", value) |
                       json_object_set_new(object, "source", json_string(from));
    return json_object_set_new(parent, key, object) | failed;
}

static int set_figure(json_t *root, const figure_t *figure, const dpr_hardware_t *hardware,
                      const dpr_hardware_sources_t *sources)
{
    double value;
    memcpy(&value, (const char *)hardware + figure->offset, sizeof value);
    if (figure->is_optional && value == 0.0) {
        return 0;
    }
    json_t *parent = figure->group != NULL ? json_object_get(root, figure->group) : root;
    return set_sourced(parent, figure->key, json_real(value),
                       figure->is_assumed ? sources->assumed : sources->measured);
}

static int fill_root(json_t *root, const dpr_hardware_t *hardware,
                     const dpr_hardware_sources_t *sources)
{
    int failed = json_object_set_new(root, "format", json_string(format_name)) |
                 json_object_set_new(root, "version", json_integer(FORMAT_VERSION)) |
                 json_object_set_new(root, "name", json_string(hardware->name)) |
                 json_object_set_new(root, "comment", json_string(sources->comment)) |
                 json_object_set_new(root, "peak_flops_per_sec", json_object()) |
                 json_object_set_new(root, "node_link", json_object()) |
                 json_object_set_new(root, "network_link", json_object());
    for (int i = 0; i < FIGURES && !failed; i++) {
        failed |= set_figure(root, &figures[i], hardware, sources);
    }
    return failed | set_sourced(root, "devices_per_node", json_integer(hardware->devices_per_node),
                                sources->measured);
}

dpr_status_t dpr_hardware_write(const dpr_hardware_t *hardware,
                                const dpr_hardware_sources_t *sources, const char *path)
{
    json_t *root = json_object();
    char *text = NULL;
    if (root != NULL && fill_root(root, hardware, sources) == 0) {
        text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    }
    json_decref(root);
    if (text == NULL) {
        return dpr_fail(DPR_ERR_MEMORY, "cannot describe the hardware as JSON");
    }
    FILE *file = fopen(path, "w");
    const bool written = file != NULL && fputs(text, file) >= 0 && fputc('\n', file) != EOF;
    const int error = errno;
    const bool closed = file != NULL && fclose(file) == 0;
    free(text);
    return written && closed ? DPR_OK
                             : dpr_fail(DPR_ERR_IO, "cannot write %s: %s", path,
                                        strerror(written ? errno : error));
}
