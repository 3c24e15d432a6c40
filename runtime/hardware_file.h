/*
 * Hardware descriptions as JSON files; hardware/ has some. Every figure says where it comes from:
 *
 *     {"format": "dualpipe-hardware", "version": 1, "name": "...", "comment": "...",
 *      "peak_flops_per_sec": {"fp32": {"value": 67e12, "source": "data sheet ..."},
 *                             "tf32": {...}, "bf16": {...}},
 *      "flops_fraction": {"value": 0.5, "source": "assumption: ..."},
 *      "memory_bytes": {...}, "memory_bandwidth_bytes_per_sec": {...}, "memory_fraction": {...},
 *      "op_overhead_sec": {...}, "devices_per_node": {...},
 *      "node_link": {"latency_sec": {...}, "bandwidth_bytes_per_sec": {...}},
 *      "network_link": {...}, "link_fraction": {...}}
 *
 * All keys but "comment" are needed; of the precisions at least one. What each means stands in
 * models/hardware.h.
 */
#ifndef DPR_RUNTIME_HARDWARE_FILE_H
#define DPR_RUNTIME_HARDWARE_FILE_H

#include <stddef.h>

#include "models/hardware.h"

/*
 * Reads a description. Errors: DPR_ERR_IO where the file cannot be read; DPR_ERR_PARSE where it is
 * no JSON; DPR_ERR_DATA where a key is unknown, missing or of another type, a figure has no source,
 * or a value is out of its range, logged with the file, the line and the key; DPR_ERR_INVALID as
 * dpr_hardware_check; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_hardware_read(const char *path, dpr_hardware_t *hardware);

/* The same from JSON text; `name` stands for the file in messages. */
dpr_status_t dpr_hardware_parse(const char *name, const char *text, dpr_hardware_t *hardware);

/*
 * Finds what a user names: a file of that path, or NAME.json in the folder that the environment
 * variable DPR_HARDWARE_DIR names, or in `folder`, in this order. Writes the path into
 * `path` (of `size` bytes). Errors: DPR_ERR_IO, logged with the places looked at.
 */
dpr_status_t dpr_hardware_find(const char *text, const char *folder, char *path, size_t size);

/*
 * Writes a description so that reading it gives the same numbers, bit by bit. Each figure gets
 * `measured` as its source, or `assumed`: those are the fractions, and what is 1 or the same for
 * every machine. Errors: DPR_ERR_IO, logged with the path; DPR_ERR_MEMORY.
 */
typedef struct dpr_hardware_sources {
    const char *measured;
    const char *assumed;
    const char *comment;
} dpr_hardware_sources_t;

dpr_status_t dpr_hardware_write(const dpr_hardware_t *hardware,
                                const dpr_hardware_sources_t *sources, const char *path);

#endif
