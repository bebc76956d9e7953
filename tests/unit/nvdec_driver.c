/* Stands in for an NVIDIA driver with NVDEC: libcuda and libnvcuvid, in the host's memory.

   What FFmpeg does around NVDEC is then real: what it asks of the driver, the formats, times and
   marks of its pictures, the copies, and where it gives up. Decoded is nothing: pictures lie ready
   in the file STAND_IN_PICTURES, in decoding order, each one as its size (a long) and a surface.

   STAND_IN_FAULT: no-device, or crash. Supported are 4:2:0 pictures from 48 x 48 pixels on, of 8
   bits, and but for H.264 of 10, as by GPUs of some generations. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef uint64_t Address;
#define DONE(name) Result name() { return 0; }

static char context;

static int fault(const char *name) {
    const char *asked = getenv("STAND_IN_FAULT");
    return asked && !strcmp(asked, name);
}

static char *at(Address address) { return (char *)(uintptr_t)address; }

/* libcuda */

typedef struct {
    size_t from_x, from_y;
    int from_kind;
    const char *from_host;
    Address from_device;
    void *from_array;
    size_t from_pitch, to_x, to_y;
    int to_kind;
    char *to_host;
    Address to_device;
    void *to_array;
    size_t to_pitch, width, height;
} Copy; /* CUDA_MEMCPY2D */

Result cuInit(unsigned flags) { return fault("no-device") ? 100 : 0; }
Result cuDeviceGetCount(int *count) { return *count = 1, 0; }
Result cuDeviceGet(int *device, int number) { return *device = number, 0; }
Result cuDeviceGetName(char *name, int size, int device) { return strncpy(name, "x", size), 0; }
Result cuDeviceGetAttribute(int *value, int which, int device) { return *value = 512, 0; }
Result cuCtxCreate_v2(void **made, unsigned flags, int device) { return *made = &context, 0; }
Result cuCtxGetCurrent(void **current) { return *current = &context, 0; }
Result cuCtxPopCurrent_v2(void **old) { return old ? *old = &context, 0 : 0; }
Result cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    return *flags = 0, *active = 0, 0;
}
Result cuDevicePrimaryCtxRetain(void **held, int device) { return *held = &context, 0; }
Result cuGetErrorName(Result error, const char **name) { return *name = "CUDA_ERROR", 0; }
Result cuGetErrorString(Result error, const char **text) { return *text = "a stand-in's", 0; }
Result cuMemAlloc_v2(Address *made, size_t size) {
    return *made = (Address)(uintptr_t)calloc(1, size), 0;
}
Result cuMemFree_v2(Address address) { return free(at(address)), 0; }
Result cuStreamCreate(void **stream, unsigned flags) { return *stream = &context, 0; }
Result cuMemcpy2DAsync_v2(const Copy *copy, void *stream) {
    const char *from = copy->from_kind == 1 ? copy->from_host : at(copy->from_device);
    char *to = copy->to_kind == 1 ? copy->to_host : at(copy->to_device);
    for (size_t y = 0; y < copy->height; y++)
        memcpy(to + (copy->to_y + y) * copy->to_pitch + copy->to_x,
               from + (copy->from_y + y) * copy->from_pitch + copy->from_x, copy->width);
    return 0;
}
Result cuMemcpy2D_v2(const Copy *copy) { return cuMemcpy2DAsync_v2(copy, 0); }
DONE(cuCtxSetLimit) DONE(cuCtxPushCurrent_v2) DONE(cuCtxDestroy_v2) DONE(cuCtxGetDevice)
DONE(cuDevicePrimaryCtxRelease) DONE(cuDevicePrimaryCtxSetFlags) DONE(cuDevicePrimaryCtxReset)
DONE(cuDeviceComputeCapability) DONE(cuDeviceGetUuid) DONE(cuDeviceGetUuid_v2)
DONE(cuDeviceGetLuid) DONE(cuDeviceGetByPCIBusId) DONE(cuDeviceGetPCIBusId)
DONE(cuDriverGetVersion) DONE(cuStreamSynchronize) DONE(cuStreamDestroy_v2) DONE(cuStreamQuery)
DONE(cuStreamWaitEvent) DONE(cuStreamAddCallback) DONE(cuMemAllocPitch_v2) DONE(cuMemAllocManaged)
DONE(cuMemsetD8Async) DONE(cuMemcpy) DONE(cuMemcpyAsync) DONE(cuMemcpyHtoD_v2)
DONE(cuMemcpyHtoDAsync_v2) DONE(cuMemcpyDtoH_v2) DONE(cuMemcpyDtoHAsync_v2) DONE(cuMemcpyDtoD_v2)
DONE(cuMemcpyDtoDAsync_v2) DONE(cuEventCreate) DONE(cuEventDestroy_v2) DONE(cuEventSynchronize)
DONE(cuEventQuery) DONE(cuEventRecord) DONE(cuLaunchKernel) DONE(cuLinkCreate) DONE(cuLinkAddData)
DONE(cuLinkComplete) DONE(cuLinkDestroy) DONE(cuModuleLoadData) DONE(cuModuleUnload)
DONE(cuModuleGetFunction) DONE(cuModuleGetGlobal) DONE(cuTexObjectCreate)
DONE(cuTexObjectDestroy) DONE(cuGLGetDevices_v2) DONE(cuGraphicsGLRegisterImage)
DONE(cuGraphicsUnregisterResource) DONE(cuGraphicsMapResources) DONE(cuGraphicsUnmapResources)
DONE(cuGraphicsSubResourceGetMappedArray) DONE(cuGraphicsResourceGetMappedPointer_v2)
DONE(cuImportExternalMemory) DONE(cuDestroyExternalMemory) DONE(cuExternalMemoryGetMappedBuffer)
DONE(cuExternalMemoryGetMappedMipmappedArray) DONE(cuMipmappedArrayDestroy)
DONE(cuMipmappedArrayGetLevel) DONE(cuImportExternalSemaphore) DONE(cuDestroyExternalSemaphore)
DONE(cuSignalExternalSemaphoresAsync) DONE(cuWaitExternalSemaphoresAsync) DONE(cuArrayCreate_v2)
DONE(cuArray3DCreate_v2) DONE(cuArrayDestroy) DONE(cuEGLStreamProducerConnect)
DONE(cuEGLStreamProducerDisconnect) DONE(cuEGLStreamConsumerDisconnect)
DONE(cuEGLStreamProducerPresentFrame) DONE(cuEGLStreamProducerReturnFrame)

/* libnvcuvid */

enum { H264 = 4, CHROMA_420 = 1, NV12_AND_P016 = 3 };

typedef struct {
    int codec, chroma;
    unsigned more_bits, unused[3];
    unsigned char is_supported, num_engines;
    unsigned short formats;
    unsigned max_width, max_height, max_blocks;
    unsigned short min_width, min_height;
} Abilities; /* CUVIDDECODECAPS */

typedef struct {
    unsigned long width, height, num_surfaces;
    int codec, chroma;
    unsigned long flags, more_bits;
} Wanted; /* CUVIDDECODECREATEINFO */

typedef struct {
    size_t pitch, num_bytes;
    unsigned long num_surfaces;
    char **surfaces;
} Decoder;

Result cuvidGetDecoderCaps(Abilities *abilities) {
    unsigned most = abilities->codec == H264 ? 0 : 2;
    abilities->is_supported = abilities->chroma == CHROMA_420 && abilities->more_bits <= most;
    abilities->formats = NV12_AND_P016;
    abilities->max_width = abilities->max_height = 8192;
    abilities->max_blocks = 1 << 20;
    abilities->min_width = abilities->min_height = 48;
    return 0;
}

Result cuvidCreateDecoder(Decoder **made, const Wanted *wanted) {
    Decoder *decoder = calloc(1, sizeof *decoder);
    if (fault("crash"))
        abort();
    decoder->pitch = ((wanted->width << (wanted->more_bits > 0)) + 63) & ~63ul;
    decoder->num_bytes = decoder->pitch * ((wanted->height + 1) / 2 * 3);
    decoder->num_surfaces = wanted->num_surfaces;
    decoder->surfaces = calloc(decoder->num_surfaces, sizeof *decoder->surfaces);
    for (unsigned number = 0; number < decoder->num_surfaces; number++)
        decoder->surfaces[number] = calloc(1, decoder->num_bytes);
    return *made = decoder, 0;
}

Result cuvidDestroyDecoder(Decoder *decoder) {
    for (unsigned number = 0; number < decoder->num_surfaces; number++)
        free(decoder->surfaces[number]);
    free(decoder->surfaces);
    free(decoder);
    return 0;
}

Result cuvidDecodePicture(Decoder *decoder, const int *picture) {
    static FILE *pictures;
    unsigned long num_bytes = 0;
    char *surface = decoder->surfaces[picture[2]]; /* CUVIDPICPARAMS: CurrPicIdx */
    if (!pictures && getenv("STAND_IN_PICTURES"))
        pictures = fopen(getenv("STAND_IN_PICTURES"), "rb");
    if (!pictures || fread(&num_bytes, sizeof num_bytes, 1, pictures) != 1)
        return 0; /* a green one */
    return num_bytes != decoder->num_bytes || fread(surface, num_bytes, 1, pictures) != 1;
}

Result cuvidMapVideoFrame64(Decoder *decoder, int index, Address *address, unsigned *pitch) {
    *address = (Address)(uintptr_t)decoder->surfaces[index];
    return *pitch = decoder->pitch, 0;
}
DONE(cuvidUnmapVideoFrame64) DONE(cuvidCtxLockCreate) DONE(cuvidCtxLockDestroy) DONE(cuvidCtxLock)
DONE(cuvidCtxUnlock) DONE(cuvidCreateVideoSource) DONE(cuvidCreateVideoSourceW)
DONE(cuvidDestroyVideoSource) DONE(cuvidSetVideoSourceState) DONE(cuvidGetVideoSourceState)
DONE(cuvidGetSourceVideoFormat) DONE(cuvidGetSourceAudioFormat) DONE(cuvidCreateVideoParser)
DONE(cuvidParseVideoData) DONE(cuvidDestroyVideoParser) DONE(cuvidReconfigureDecoder)
DONE(cuvidGetDecodeStatus)
