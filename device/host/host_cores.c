/*
 * Counting cores: whole ones, not hardware threads, because two compute streams on the two threads
 * of a core slow each other down.
 */
#include <hwloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "device/device.h"

/* Cores with a hardware thread in `set`; hardware threads where the system does not tell cores. */
static int cores_inside(hwloc_topology_t topology, hwloc_const_cpuset_t set)
{
    const hwloc_obj_type_t types[] = {HWLOC_OBJ_CORE, HWLOC_OBJ_PU};
    int count = 0;
    for (size_t t = 0; t < sizeof types / sizeof types[0] && count == 0; t++) {
        hwloc_obj_t object = NULL;
        while ((object = hwloc_get_next_obj_by_type(topology, types[t], object)) != NULL) {
            count += hwloc_bitmap_intersects(object->cpuset, set) ? 1 : 0;
        }
    }
    return count;
}

/* Cores that this node allows, within this process's own binding or not; 0 where that fails. */
static int cores_by_topology(bool bound)
{
    int count = 0;
    hwloc_topology_t topology;
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    if (set == NULL) {
        return 0;
    }
    if (hwloc_topology_init(&topology) != 0) {
        goto free_set;
    }
    if (hwloc_topology_load(topology) != 0) {
        goto destroy_topology;
    }
    if (!bound || hwloc_get_cpubind(topology, set, HWLOC_CPUBIND_PROCESS) != 0) {
        hwloc_bitmap_copy(set, hwloc_topology_get_allowed_cpuset(topology));
    }
    count = cores_inside(topology, set);
destroy_topology:
    hwloc_topology_destroy(topology);
free_set:
    hwloc_bitmap_free(set);
    return count;
}

/* Lowers *cores to the processor time that the control group at `path` grants, if it sets a bound.
 */
static void apply_quota(const char *path, int *cores)
{
    char name[512];
    double quota_usec;
    double period_usec;
    snprintf(name, sizeof name, "/sys/fs/cgroup%s/cpu.max", path);
    FILE *file = fopen(name, "r");
    if (file == NULL) {
        return;
    }
    /* "max 100000" where there is no bound: then the first number is missing. */
    if (fscanf(file, "%lf %lf", &quota_usec, &period_usec) == 2 && period_usec > 0.0 &&
        quota_usec < period_usec * *cores) {
        *cores = (int)(quota_usec / period_usec);
    }
    fclose(file);
}

/*
 * Containers often grant processor time instead of cores (cgroup v2, cpu.max), which hwloc does not
 * see. Every group from this process's own ("0::/a/b") up to the root may set a bound.
 */
static int within_quota(int cores)
{
    char line[384];
    FILE *file = fopen("/proc/self/cgroup", "r");
    if (file == NULL) {
        return cores;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "0::/", 4) != 0) {
            continue;
        }
        char *path = line + 3;
        path[strcspn(path, "\n")] = '\0';
        for (char *end = path + strlen(path); end != NULL; end = strrchr(path, '/')) {
            *end = '\0';
            apply_quota(path, &cores);
        }
    }
    fclose(file);
    return cores;
}

static int at_least_one(int cores)
{
    return cores > 0 ? cores : 1;
}

int dpr_host_cores_usable(void)
{
    return at_least_one(within_quota(cores_by_topology(true)));
}

int dpr_host_cores_on_node(void)
{
    return at_least_one(within_quota(cores_by_topology(false)));
}
