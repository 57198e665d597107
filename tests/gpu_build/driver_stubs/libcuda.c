/*
 * Stub of the CUDA driver library (libcuda.so.1): enough for vLLM's CUDA extensions to load on a machine without a GPU.
 *
 * The extensions link against these functions, so the dynamic loader needs every one of them. Each returns
 * CUDA_ERROR_NO_DEVICE: code that really needs a GPU gets the error that a node without a GPU gives, and no test can
 * pass by accident on a call that did nothing.
 *
 * The list is the union of what `nm -D --undefined-only` shows for the `.so` files of vLLM 0.24 to 0.33. A test that
 * fails with `undefined symbol: cu...` after an upgrade of vLLM wants another line here.
 */

#define CUDA_ERROR_NO_DEVICE 100

/* The arguments do not matter: a stub reads none of them. */
#define NO_DEVICE(name) \
    int name(void) { return CUDA_ERROR_NO_DEVICE; }

/* The CUDA runtime calls these first; with their error no CUDA context is ever made. */
NO_DEVICE(cuInit)
NO_DEVICE(cuDriverGetVersion)
NO_DEVICE(cuGetErrorString)
NO_DEVICE(cuGetProcAddress_v2)

/* vllm/cumem_allocator.abi3.so: the memory pool of sleep mode. */
NO_DEVICE(cuCtxGetCurrent)
NO_DEVICE(cuCtxSetCurrent)
NO_DEVICE(cuDeviceGetAttribute)
NO_DEVICE(cuDevicePrimaryCtxRetain)
NO_DEVICE(cuMemAddressFree)
NO_DEVICE(cuMemAddressReserve)
NO_DEVICE(cuMemCreate)
NO_DEVICE(cuMemGetAllocationGranularity)
NO_DEVICE(cuMemMap)
NO_DEVICE(cuMemRelease)
NO_DEVICE(cuMemSetAccess)
NO_DEVICE(cuMemUnmap)

/* vllm/_C_stable_libtorch.abi3.so and FlashAttention 3. */
NO_DEVICE(cuPointerGetAttribute)
NO_DEVICE(cuTensorMapEncodeTiled)
