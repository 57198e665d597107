/*
 * Stub of NVIDIA's management library (libnvidia-ml.so.1): a node with identical GPUs, described by the environment.
 *
 * vLLM, PyTorch and Ray find GPUs through NVML, not through the CUDA runtime. The stub therefore makes vLLM choose its
 * CUDA platform and Ray count GPUs. The functions are those that the three call by way of pynvml; a missing one raises
 * NVMLError_FunctionNotFound there.
 *
 *   STUB_GPUS                 number of GPUs                                  default 1
 *   STUB_COMPUTE_CAPABILITY   ten times the compute capability                default 90 (Hopper)
 *   STUB_GPU_NAME             product name                                    default "NVIDIA H100 80GB HBM3"
 *   STUB_GPU_MEMORY_MIB       memory of each GPU                              default 81559
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_GPUS 16

enum { SUCCESS = 0, INVALID_ARGUMENT = 2 };

typedef struct {
    unsigned index;
} Device;

typedef struct {
    unsigned long long total, free, used;
} Memory;

/* nvmlPciInfo_t of nvml.h. */
typedef struct {
    char busIdLegacy[16];
    unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} PciInfo;

static Device devices[MAX_GPUS];

static const char *setting(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value && *value ? value : fallback;
}

static unsigned gpu_count(void) {
    unsigned count = (unsigned)atoi(setting("STUB_GPUS", "1"));
    return count < MAX_GPUS ? count : MAX_GPUS;
}

/* Start and end of every query. */
int nvmlInit(void) { return SUCCESS; }
int nvmlInit_v2(void) { return SUCCESS; }
int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    return SUCCESS;
}
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == SUCCESS ? "success" : "error of the NVML stub"; }

/* How many GPUs: torch.cuda.device_count() and Ray. */
int nvmlDeviceGetCount(unsigned *count) {
    *count = gpu_count();
    return SUCCESS;
}
int nvmlDeviceGetCount_v2(unsigned *count) { return nvmlDeviceGetCount(count); }

/* A handle for an index or for an id from CUDA_VISIBLE_DEVICES. */
int nvmlDeviceGetHandleByIndex(unsigned index, Device **device) {
    if (index >= gpu_count()) return INVALID_ARGUMENT;
    devices[index].index = index;
    *device = &devices[index];
    return SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) { return nvmlDeviceGetHandleByIndex(index, device); }
int nvmlDeviceGetIndex(Device *device, unsigned *index) {
    *index = device->index;
    return SUCCESS;
}
int nvmlDeviceGetUUID(Device *device, char *text, unsigned length) {
    snprintf(text, length, "GPU-00000000-0000-0000-0000-0000000000%02u", device->index);
    return SUCCESS;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, Device **device) {
    if (strlen(uuid) < 2) return INVALID_ARGUMENT;
    return nvmlDeviceGetHandleByIndex((unsigned)atoi(uuid + strlen(uuid) - 2), device);
}

/* The properties that vLLM's platform, attention backend and memory defaults depend on. */
int nvmlDeviceGetCudaComputeCapability(Device *device, int *major, int *minor) {
    int capability = atoi(setting("STUB_COMPUTE_CAPABILITY", "90"));
    (void)device;
    *major = capability / 10;
    *minor = capability % 10;
    return SUCCESS;
}
int nvmlDeviceGetName(Device *device, char *text, unsigned length) {
    (void)device;
    snprintf(text, length, "%s", setting("STUB_GPU_NAME", "NVIDIA H100 80GB HBM3"));
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    (void)device;
    memory->total = strtoull(setting("STUB_GPU_MEMORY_MIB", "81559"), NULL, 10) << 20;
    memory->used = 0;
    memory->free = memory->total;
    return SUCCESS;
}
int nvmlDeviceGetPciInfo_v3(Device *device, PciInfo *info) {
    memset(info, 0, sizeof *info);
    info->bus = device->index;
    snprintf(info->busId, sizeof info->busId, "00000000:%02X:00.0", device->index);
    snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "0000:%02X:00.0", device->index);
    return SUCCESS;
}

/* One NUMA node, every pair of GPUs linked: the questions behind custom all-reduce and worker placement. */
int nvmlDeviceGetNumaNodeId(Device *device, unsigned *node) {
    (void)device;
    *node = 0;
    return SUCCESS;
}
int nvmlDeviceGetP2PStatus(Device *first, Device *second, int index, int *status) {
    (void)first;
    (void)second;
    (void)index;
    *status = SUCCESS;
    return SUCCESS;
}

/* Driver R580, CUDA 13.0: what the newest vLLM in the bounds asks for. */
int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    snprintf(text, length, "580.65.06");
    return SUCCESS;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = 13000;
    return SUCCESS;
}
