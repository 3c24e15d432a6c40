/* Writes cost models. */
#include <jansson.h>
#include <math.h>

#include "base/log.h"
#include "runtime/cost_file.h"

/*
 * jansson reports that memory is short, or a number not finite, as -1 or NULL, and takes NULL for
 * an object; so failures are or-ed up and seen at the end.
 */

/* NAN, what was not measured, is left out. */
static int put_number(json_t *object, const char *key, double value)
{
    return isnan(value) ? 0 : json_object_set_new(object, key, json_real(value));
}

/* What a table keeps of a rank and stage. */
static int put_compute(json_t *object, const double compute[4])
{
    int failed = put_number(object, "F", compute[0]);
    failed |= put_number(object, "B", compute[1]);
    failed |= put_number(object, "I", compute[2]);
    return failed | put_number(object, "W", compute[3]);
}

static int put_link(json_t *object, double latency_sec, double bandwidth)
{
    int failed = put_number(object, "latency_sec", latency_sec);
    return failed |
           put_number(object, "bandwidth_bytes_per_sec", isinf(bandwidth) ? NAN : bandwidth);
}

static int put_uniform(json_t *root, const dpr_uniform_costs_t *costs)
{
    json_t *object = json_object();
    int failed = json_object_set_new(root, "uniform", object);
    failed |= put_number(object, "F", costs->f);
    failed |= put_number(object, "I", costs->i);
    failed |= put_number(object, "W", costs->w);
    failed |= put_number(object, "B", costs->b < 0.0 ? NAN : costs->b);
    failed |= put_number(object, "FB", costs->fb < 0.0 ? NAN : costs->fb);
    failed |= put_number(object, "wire", costs->wire);
    return failed;
}

static int put_stages(json_t *root, const dpr_cost_table_t *table)
{
    const double *compute = table->compute;
    json_t *stages = json_array();
    json_t *link = json_object();
    int failed = json_object_set_new(root, "stages", stages);
    for (int s = 0; s < table->stages; s++, compute += 4) {
        json_t *stage = json_object();
        failed |= json_array_append_new(stages, stage);
        failed |= put_compute(stage, compute);
    }
    failed |= json_object_set_new(root, "link", link);
    return failed | put_link(link, table->latency_sec[0], table->bandwidth_bytes_per_sec[0]);
}

static int put_fb_square(json_t *root, const dpr_cost_table_t *table)
{
    const double *fb = table->fb;
    json_t *rows = json_array();
    int failed = json_object_set_new(root, "FB", rows);
    for (int f = 0; f < table->stages; f++) {
        json_t *row = json_array();
        failed |= json_array_append_new(rows, row);
        for (int b = 0; b < table->stages; b++, fb++) {
            failed |= json_array_append_new(row, isnan(*fb) ? json_null() : json_real(*fb));
        }
    }
    return failed;
}

static int put_table_compute(json_t *entries, const dpr_cost_table_t *table)
{
    const double *compute = table->compute;
    int failed = 0;
    for (int r = 0; r < table->ranks; r++) {
        for (int s = 0; s < table->stages; s++, compute += 4) {
            if (isnan(compute[0]) && isnan(compute[1]) && isnan(compute[2]) && isnan(compute[3])) {
                continue;
            }
            json_t *entry = json_pack("{s:i, s:i}", "rank", r, "stage", s);
            failed |= json_array_append_new(entries, entry);
            failed |= put_compute(entry, compute);
        }
    }
    return failed;
}

static int put_table_fb(json_t *entries, const dpr_cost_table_t *table)
{
    const double *fb = table->fb;
    int failed = 0;
    for (int r = 0; fb != NULL && r < table->ranks; r++) {
        for (int f = 0; f < table->stages; f++) {
            for (int b = 0; b < table->stages; b++, fb++) {
                if (!isnan(*fb)) {
                    json_t *entry = json_pack("{s:i, s:i, s:i, s:f}", "rank", r, "f_stage", f,
                                              "b_stage", b, "cost", *fb);
                    failed |= json_array_append_new(entries, entry);
                }
            }
        }
    }
    return failed;
}

static int put_table_links(json_t *entries, const dpr_cost_table_t *table)
{
    int failed = 0;
    for (int l = 0; l < table->ranks * table->ranks; l++) {
        if (!isnan(table->latency_sec[l]) && !isnan(table->bandwidth_bytes_per_sec[l])) {
            json_t *entry = json_pack("{s:i, s:i}", "source", l / table->ranks, "destination",
                                      l % table->ranks);
            failed |= json_array_append_new(entries, entry);
            failed |= put_link(entry, table->latency_sec[l], table->bandwidth_bytes_per_sec[l]);
        }
    }
    return failed;
}

static int put_table(json_t *root, const dpr_cost_table_t *table)
{
    json_t *compute = json_array();
    json_t *fb = json_array();
    json_t *links = json_array();
    json_t *object = json_pack("{s:i, s:i, s:o, s:o, s:o}", "ranks", (int)table->ranks, "stages",
                               (int)table->stages, "compute", compute, "FB", fb, "links", links);
    int failed = json_object_set_new(root, "table", object);
    failed |= put_table_compute(compute, table);
    failed |= put_table_fb(fb, table);
    return failed | put_table_links(links, table);
}

dpr_status_t dpr_cost_model_write(const dpr_cost_model_t *model, const char *path)
{
    json_t *root = json_pack("{s:s}", "unit", "s");
    int failed = root == NULL;
    switch (model->kind) {
    case DPR_COST_MODEL_UNIFORM:
        failed |= put_uniform(root, &model->uniform);
        break;
    case DPR_COST_MODEL_STAGES:
        failed |= put_stages(root, &model->table);
        failed |= model->table.fb != NULL && put_fb_square(root, &model->table);
        break;
    case DPR_COST_MODEL_TABLE:
        failed |= put_table(root, &model->table);
        break;
    }
    if (failed) {
        json_decref(root);
        return dpr_fail(DPR_ERR_MEMORY, "cannot write %s: no memory, or a cost is not finite",
                        path);
    }
    failed = json_dump_file(root, path, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(root);
    if (failed) {
        return dpr_fail(DPR_ERR_IO,
                        "cannot write %s: check that its folder exists, may be written "
                        "to and has room",
                        path);
    }
    return DPR_OK;
}
