/* Cost models: uniform costs and measured tables, both onto one cost per node. */
#include "models/costs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/memory.h"

static const char cost_names[] = "F, I, W, B, FB and wire";

typedef struct named_cost {
    const char *name;
    size_t offset;
} named_cost_t;

static const named_cost_t named_costs[] = {
    {"F", offsetof(dpr_uniform_costs_t, f)},   {"I", offsetof(dpr_uniform_costs_t, i)},
    {"W", offsetof(dpr_uniform_costs_t, w)},   {"B", offsetof(dpr_uniform_costs_t, b)},
    {"FB", offsetof(dpr_uniform_costs_t, fb)}, {"wire", offsetof(dpr_uniform_costs_t, wire)},
};

enum { NAMED_COSTS = sizeof named_costs / sizeof named_costs[0], PART_MAX = 64 };

static int find_name(const char *name)
{
    for (int i = 0; i < NAMED_COSTS; i++) {
        if (strcasecmp(named_costs[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

/* Parses one "name=value" into `costs`; `seen` has a bit for each name met before. */
static dpr_status_t parse_part(char *part, unsigned *seen, dpr_uniform_costs_t *costs)
{
    char *equals = strchr(part, '=');
    if (equals == NULL) {
        return dpr_fail(DPR_ERR_INVALID, "cost '%s': expected name=value, names are %s", part,
                        cost_names);
    }
    *equals = '\0';
    const char *text = equals + 1;
    const int index = find_name(part);
    if (index < 0) {
        return dpr_fail(DPR_ERR_INVALID, "cost '%s=%s': unknown name, expected one of %s", part,
                        text, cost_names);
    }
    if (*seen & (1u << index)) {
        return dpr_fail(DPR_ERR_INVALID, "cost '%s=%s': %s stands there twice", part, text,
                        named_costs[index].name);
    }
    *seen |= 1u << index;
    char *end;
    const double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || value < 0.0) {
        return dpr_fail(DPR_ERR_INVALID, "cost '%s=%s': expected a finite number, 0 or more", part,
                        text);
    }
    memcpy((char *)costs + named_costs[index].offset, &value, sizeof value);
    return DPR_OK;
}

dpr_status_t dpr_uniform_costs_parse(const char *text, dpr_uniform_costs_t *costs)
{
    dpr_uniform_costs_t parsed = DPR_UNIFORM_COSTS_DEFAULT;
    unsigned seen = 0;
    for (const char *at = text;;) {
        const size_t length = strcspn(at, ",");
        char part[PART_MAX];
        if (length >= sizeof part) {
            return dpr_fail(DPR_ERR_INVALID, "cost '%.*s...': expected name=value, names are %s",
                            PART_MAX / 2, at, cost_names);
        }
        memcpy(part, at, length);
        part[length] = '\0';
        DPR_TRY(parse_part(part, &seen, &parsed));
        if (at[length] == '\0') {
            break;
        }
        at += length + 1;
    }
    *costs = parsed;
    return DPR_OK;
}

static double uniform_cost(const dpr_uniform_costs_t *costs, dpr_node_kind_t kind)
{
    switch (kind) {
    case DPR_NODE_F:
        return costs->f;
    case DPR_NODE_B:
        return dpr_uniform_b(costs);
    case DPR_NODE_I:
        return costs->i;
    case DPR_NODE_W:
        return costs->w;
    case DPR_NODE_FB:
        return dpr_uniform_fb(costs);
    case DPR_NODE_SEND_ACT:
    case DPR_NODE_SEND_GRAD:
        break;
    }
    return costs->wire;
}

void dpr_uniform_costs_fill(const dpr_uniform_costs_t *costs, const dpr_graph_t *graph,
                            double *cost)
{
    double by_kind[DPR_NODE_KINDS];
    for (int kind = 0; kind < DPR_NODE_KINDS; kind++) {
        by_kind[kind] = uniform_cost(costs, (dpr_node_kind_t)kind);
    }
    for (int32_t n = 0; n < graph->node_count; n++) {
        cost[n] = by_kind[graph->nodes[n].kind];
    }
}

/* `count` NANs. */
static dpr_status_t alloc_unknown(size_t count, double **array)
{
    DPR_TRY(dpr_calloc(count, sizeof **array, array));
    for (size_t i = 0; i < count; i++) {
        (*array)[i] = NAN;
    }
    return DPR_OK;
}

dpr_status_t dpr_cost_table_init(dpr_cost_table_t *table, int ranks, int stages)
{
    const size_t P = (size_t)ranks;
    const size_t S = (size_t)stages;
    dpr_cost_table_t made = {.ranks = ranks, .stages = stages};
    dpr_status_t status;
    DPR_TRY_GOTO(alloc_unknown(P * S * 4, &made.compute), free_table);
    DPR_TRY_GOTO(alloc_unknown(P * S * S, &made.fb), free_table);
    DPR_TRY_GOTO(alloc_unknown(P * P, &made.latency_sec), free_table);
    DPR_TRY_GOTO(alloc_unknown(P * P, &made.bandwidth_bytes_per_sec), free_table);
    *table = made;
    return DPR_OK;
free_table:
    dpr_cost_table_free(&made);
    return status;
}

void dpr_cost_table_free(dpr_cost_table_t *table)
{
    free(table->compute);
    free(table->fb);
    free(table->latency_sec);
    free(table->bandwidth_bytes_per_sec);
    *table = (dpr_cost_table_t){0};
}

enum { TABLE_F, TABLE_B, TABLE_I, TABLE_W };

/* NAN where the table has neither the cost nor what it is the sum of. */
static double table_compute(const dpr_cost_table_t *table, int32_t rank, int32_t stage,
                            dpr_node_kind_t kind)
{
    const double *costs =
        &table->compute[((size_t)rank * (size_t)table->stages + (size_t)stage) * 4];
    switch (kind) {
    case DPR_NODE_F:
        return costs[TABLE_F];
    case DPR_NODE_I:
        return costs[TABLE_I];
    case DPR_NODE_W:
        return costs[TABLE_W];
    default:
        return isnan(costs[TABLE_B]) ? costs[TABLE_I] + costs[TABLE_W] : costs[TABLE_B];
    }
}

static double table_fb(const dpr_cost_table_t *table, const dpr_node_t *node)
{
    if (table->fb != NULL) {
        const size_t S = (size_t)table->stages;
        const double fb =
            table->fb[((size_t)node->rank * S + (size_t)node->stage) * S + (size_t)node->b_stage];
        if (!isnan(fb)) {
            return fb;
        }
    }
    return table_compute(table, node->rank, node->stage, DPR_NODE_F) +
           table_compute(table, node->rank, node->b_stage, DPR_NODE_B);
}

static double table_wire(const dpr_cost_table_t *table, const dpr_node_t *node,
                         size_t message_bytes)
{
    const size_t link = (size_t)node->rank * (size_t)table->ranks + (size_t)node->peer;
    return table->latency_sec[link] + (double)message_bytes / table->bandwidth_bytes_per_sec[link];
}

static dpr_status_t fail_unknown_cost(const dpr_graph_t *graph, int32_t index)
{
    static const char *const kinds[DPR_NODE_KINDS] = {
        [DPR_NODE_F] = "F", [DPR_NODE_B] = "B",   [DPR_NODE_I] = "I",
        [DPR_NODE_W] = "W", [DPR_NODE_FB] = "FB",
    };
    const dpr_node_t *node = &graph->nodes[index];
    if (dpr_node_is_transfer(node)) {
        return dpr_fail(
            DPR_ERR_INVALID,
            "the cost table has no latency and bandwidth from rank %d to rank %d, which "
            "the program needs",
            node->rank, node->peer);
    }
    if (node->kind == DPR_NODE_FB) {
        return dpr_fail(DPR_ERR_INVALID,
                        "rank %d: the cost table has no FB of stages %d and %d, nor the F and B to "
                        "sum, which the program needs",
                        node->rank, node->stage, node->b_stage);
    }
    return dpr_fail(DPR_ERR_INVALID,
                    "rank %d, stage %d: the cost table has no %s, which the program needs",
                    node->rank, node->stage, kinds[node->kind]);
}

dpr_status_t dpr_cost_table_fill(const dpr_cost_table_t *table, const dpr_graph_t *graph,
                                 size_t message_bytes, double *cost)
{
    if (table->ranks != graph->ranks || table->stages != graph->stages) {
        return dpr_fail(DPR_ERR_INVALID,
                        "the cost table is of %d ranks and %d stages, the program of %d and %d",
                        table->ranks, table->stages, graph->ranks, graph->stages);
    }
    for (int32_t n = 0; n < graph->node_count; n++) {
        const dpr_node_t *node = &graph->nodes[n];
        if (dpr_node_is_transfer(node)) {
            cost[n] = table_wire(table, node, message_bytes);
        } else if (node->kind == DPR_NODE_FB) {
            cost[n] = table_fb(table, node);
        } else {
            cost[n] = table_compute(table, node->rank, node->stage, (dpr_node_kind_t)node->kind);
        }
        if (isnan(cost[n])) {
            return fail_unknown_cost(graph, n);
        }
    }
    return DPR_OK;
}

static double mean_or(double sum, int64_t count, double otherwise)
{
    return count > 0 ? sum / (double)count : otherwise;
}

void dpr_uniform_costs_mean(const dpr_graph_t *graph, const double *cost,
                            dpr_uniform_costs_t *costs)
{
    double sum[DPR_NODE_KINDS] = {0.0};
    int64_t count[DPR_NODE_KINDS] = {0};
    for (int32_t n = 0; n < graph->node_count; n++) {
        sum[graph->nodes[n].kind] += cost[n];
        count[graph->nodes[n].kind]++;
    }
    const bool has_b = count[DPR_NODE_B] > 0;
    const double half_b = has_b ? sum[DPR_NODE_B] / (double)count[DPR_NODE_B] / 2.0 : 0.0;
    costs->f = mean_or(sum[DPR_NODE_F], count[DPR_NODE_F], 0.0);
    costs->i = mean_or(sum[DPR_NODE_I], count[DPR_NODE_I], half_b);
    costs->w = mean_or(sum[DPR_NODE_W], count[DPR_NODE_W], half_b);
    costs->b = has_b ? 2.0 * half_b : costs->i + costs->w;
    costs->fb = mean_or(sum[DPR_NODE_FB], count[DPR_NODE_FB], costs->f + costs->b);
    costs->wire = mean_or(sum[DPR_NODE_SEND_ACT] + sum[DPR_NODE_SEND_GRAD],
                          count[DPR_NODE_SEND_ACT] + count[DPR_NODE_SEND_GRAD], 0.0);
}
