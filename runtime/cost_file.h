/*
 * Cost models from outside: what `--cost-model` names, and what calibration leaves for later.
 *
 * Either costs on the command line, the same for every stage (dpr_uniform_costs_parse)
 *
 *     F=1e-3,I=1e-3,W=1e-3,FB=3e-3,wire=1e-4
 *
 * or a JSON file of one of three forms. The same for every stage:
 *
 *     {"unit": "ms",
 *      "uniform": {"F": 1, "I": 1, "W": 1, "B": 2, "FB": 3, "wire": 0.1}}
 *
 * by stage, whatever rank runs it; FB[f][b] is a forward of stage f with a backward of stage b:
 *
 *     {"unit": "ms",
 *      "stages": [{"F": 1, "I": 1, "W": 1, "B": 2}, ...],
 *      "FB": [[3, null, ...], ...],
 *      "link": {"latency_sec": 5e-6, "bandwidth_bytes_per_sec": 25e9}}
 *
 * or a whole table, as calibration measures it, naming only what was measured:
 *
 *     {"unit": "ms",
 *      "table": {"ranks": 2, "stages": 4,
 *                "compute": [{"rank": 0, "stage": 3, "F": 1, "B": 2, "I": 1, "W": 1}, ...],
 *                "FB": [{"rank": 0, "f_stage": 0, "b_stage": 3, "cost": 3}, ...],
 *                "links": [{"source": 0, "destination": 1, "latency_sec": 5e-6,
 *                           "bandwidth_bytes_per_sec": 25e9}, ...]}}
 *
 * "unit" is "s" (the default), "ms" or "us" and holds for F, I, W, B, FB, wire and cost. "uniform"
 * needs F, I and W. A B that is left out is I + W, an FB that is left out or null is F + B, a wire
 * or link that is left out costs nothing, a bandwidth that is left out is infinite. A "comment" (a
 * string) may stand at the top.
 */
#ifndef DPR_RUNTIME_COST_FILE_H
#define DPR_RUNTIME_COST_FILE_H

#include "models/costs.h"

typedef enum dpr_cost_model_kind {
    DPR_COST_MODEL_UNIFORM,
    DPR_COST_MODEL_STAGES,
    DPR_COST_MODEL_TABLE,
} dpr_cost_model_kind_t;

/* Seconds throughout. Owned (dpr_cost_model_free). */
typedef struct dpr_cost_model {
    dpr_cost_model_kind_t kind;
    dpr_uniform_costs_t uniform; /* UNIFORM */
    dpr_cost_table_t table;      /* TABLE; STAGES: of one rank, its one link standing for all */
} dpr_cost_model_t;

/*
 * Reads what `text` names: a file where there is one of that name, else costs if it has an '='.
 * Errors: DPR_ERR_IO where it is neither, or the file cannot be read; DPR_ERR_PARSE where the file
 * is no JSON or gives a key twice; DPR_ERR_DATA where it is not of one of the forms above (a key
 * that is unknown or missing, a value of another type, negative or out of range), both logged with
 * the file, the line and the key; those of dpr_uniform_costs_parse; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_cost_model_read(const char *text, dpr_cost_model_t *model);

/* The same from JSON text; `name` stands for the file in messages. */
dpr_status_t dpr_cost_model_parse(const char *name, const char *text, dpr_cost_model_t *model);

void dpr_cost_model_free(dpr_cost_model_t *model); /* a zeroed one is allowed */

/*
 * Fills cost[0 .. node_count - 1] in seconds; messages are message_bytes long. Errors:
 * DPR_ERR_INVALID where the model is for other stages or ranks than the graph has, or lacks a cost
 * that the graph needs, logged.
 */
dpr_status_t dpr_cost_model_fill(const dpr_cost_model_t *model, const dpr_graph_t *graph,
                                 size_t message_bytes, double *cost);

/*
 * Writes a model so that reading it gives the same numbers, bit by bit. A calibrated table is
 * written as {.kind = DPR_COST_MODEL_TABLE, .table = table}. Errors: DPR_ERR_IO, logged with the
 * path; DPR_ERR_MEMORY (also where a cost is infinite).
 */
dpr_status_t dpr_cost_model_write(const dpr_cost_model_t *model, const char *path);

#endif
