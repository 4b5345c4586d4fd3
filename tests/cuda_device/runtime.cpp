// The part of libcudart.so.13 that TVM's runtime and the engine call.
#include <cstdio>
#include <cstring>

#include "queues.h"

using namespace device;

static int last_error;
static int report(int status) {
  if (status) last_error = status;
  return status;
}
#define API extern "C" int
#define REFUSE_IN_CAPTURE(WHAT) \
  if (capturing_anywhere()) return report(fail(kCaptureUnsupported, WHAT " while a stream is captured"))

// Devices --------------------------------------------------------------------------------------------
API cudaGetDeviceCount(int* count) { return *count = settings.devices, kOk; }
API cudaGetDevice(int* number) { return *number = current_device, kOk; }
API cudaSetDevice(int number) {
  if (number < 0 || number >= settings.devices) return report(fail(kNoDevice, "device %d of %d", number, settings.devices));
  current_device = number;
  return kOk;
}
API cudaDeviceGetAttribute(int* value, int attribute, int number) {
  if (number >= settings.devices) return fail(kNoDevice, "device %d of %d", number, settings.devices);
  switch (attribute) {
    case 1: *value = 1024; break;  // threads of a block
    case 2: case 3: *value = 1024; break;
    case 4: *value = 64; break;
    case 5: *value = 0x7FFFFFFF; break;
    case 6: case 7: *value = 65535; break;
    case 8: *value = 49152; break;
    case 10: *value = 32; break;
    case 12: *value = 65536; break;
    case 13: *value = 1980000; break;  // kHz
    case 16: *value = settings.sms; break;
    case 38: *value = 50 << 20; break;  // L2
    case 75: *value = settings.major; break;
    case 76: *value = settings.minor; break;
    case 81: *value = 233472; break;
    case 97: *value = int(settings.max_dynamic_shared); break;
    default: *value = 0;
  }
  return kOk;
}
API cudaGetDeviceProperties(void* properties, int) {
  memset(properties, 0, 512);
  return strcpy(static_cast<char*>(properties), "emulated device"), kOk;
}
API cudaDriverGetVersion(int* version) { return *version = 13000, kOk; }
API cudaRuntimeGetVersion(int* version) { return *version = 13000, kOk; }
API cudaDeviceSynchronize() { return counters.syncs++, report(synchronize_all()); }
API cudaMemGetInfo(size_t* free, size_t* total) {
  *total = settings.memory;
  return *free = settings.memory - size_t(counters.live_bytes), kOk;
}
extern "C" const char* cudaGetErrorName(int status) { return name_of(status); }
extern "C" const char* cudaGetErrorString(int status) { return message_of(status); }
API cudaGetLastError() {
  int status = last_error;
  return last_error = 0, status;
}
API cudaPeekAtLastError() { return last_error; }

// Memory ---------------------------------------------------------------------------------------------
API cudaMalloc(void** pointer, size_t bytes) {
  REFUSE_IN_CAPTURE("memory is allocated");
  return report(allocate(pointer, bytes, current_device));
}
API cudaFree(void* pointer) {
  REFUSE_IN_CAPTURE("memory is freed");
  int status = synchronize_all();
  int freed = release(pointer);
  return report(status ? status : freed);
}
API cudaMallocHost(void** pointer, size_t bytes) {
  REFUSE_IN_CAPTURE("pinned memory is allocated");
  return report(allocate_host(pointer, bytes));
}
API cudaHostAlloc(void** pointer, size_t bytes, unsigned) { return cudaMallocHost(pointer, bytes); }
API cudaFreeHost(void* pointer) {
  REFUSE_IN_CAPTURE("pinned memory is freed");
  int status = synchronize_all();
  int freed = release_host(pointer);
  return report(status ? status : freed);
}

enum Kind { kHostToHost, kHostToDevice, kDeviceToHost, kDeviceToDevice, kDefault };

static int copy_now(void* to, const void* from, size_t bytes, int kind) {
  bool to_device = kind == kHostToDevice || kind == kDeviceToDevice;
  bool from_device = kind == kDeviceToHost || kind == kDeviceToDevice;
  int status = kOk;
  if (to_device && (status = check_range(to, bytes, "destination of a copy"))) return status;
  if (from_device && (status = check_range(from, bytes, "source of a copy"))) return status;
  memmove(to, from, bytes);
  if (to_device) mark_written(to, bytes);
  counters.copied_bytes += long(bytes);
  (kind == kHostToDevice ? counters.host_to_device : kind == kDeviceToHost ? counters.device_to_host : counters.device_to_device)++;
  return kOk;
}

static int copy(void* to, const void* from, size_t bytes, int kind, void* stream, bool wait) {
  if (kind == kDefault) kind = (in_arena(from) ? 2 : 0) + (in_arena(to) ? 1 : 0);
  bool to_host = kind == kHostToHost || kind == kDeviceToHost, from_host = kind == kHostToHost || kind == kHostToDevice;
  if (to_host && in_arena(to)) return fail(kInvalidValue, "destination of a copy: a device address, not the host's");
  if (from_host && in_arena(from)) return fail(kInvalidValue, "source of a copy: a device address, not the host's");
  // Only pinned memory is copied in the background, or in a graph.
  bool pageable = (to_host && !is_pinned(to)) || (from_host && !is_pinned(from));
  bool waits = wait || pageable;
  int status = enqueue(stream, [=] { return copy_now(to, from, bytes, kind); },
                       pageable ? "a copy of pageable memory" : "a copy", !waits);
  return status || !waits ? status : synchronize(stream);
}

API cudaMemcpyAsync(void* to, const void* from, size_t bytes, int kind, void* stream) {
  return report(copy(to, from, bytes, kind, stream, false));
}
API cudaMemcpy(void* to, const void* from, size_t bytes, int kind) {
  return report(copy(to, from, bytes, kind, nullptr, true));
}
API cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, void* stream) {
  return report(copy(to, from, bytes, kDeviceToDevice, stream, false));
}
API cudaMemsetAsync(void* to, int value, size_t bytes, void* stream) {
  return report(enqueue(
      stream,
      [=] {
        if (int status = check_range(to, bytes, "destination of a fill")) return status;
        memset(to, value, bytes);
        mark_written(to, bytes);
        return counters.memsets++, int(kOk);
      },
      "a fill"));
}
API cudaMemset(void* to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }

// Streams and events ---------------------------------------------------------------------------------
API cudaStreamCreateWithFlags(void** stream, unsigned flags) { return make_stream(stream, !(flags & 1)); }
API cudaStreamCreate(void** stream) { return make_stream(stream, true); }
API cudaStreamCreateWithPriority(void** stream, unsigned flags, int) { return make_stream(stream, !(flags & 1)); }
API cudaStreamDestroy(void* stream) { return report(destroy_stream(stream)); }
API cudaStreamSynchronize(void* stream) { return counters.syncs++, report(synchronize(stream)); }
API cudaStreamQuery(void* stream) {
  Stream* s = stream_of(stream);
  return !s ? report(fail(kInvalidHandle, "asks for a stream that does not exist")) : idle(s) ? kOk : kNotReady;
}
API cudaStreamWaitEvent(void* stream, void* event, unsigned) {
  return report(wait_event(stream, static_cast<Event*>(event)));
}
API cudaEventCreate(void** event) { return *event = new Event(), kOk; }
API cudaEventCreateWithFlags(void** event, unsigned) { return cudaEventCreate(event); }
API cudaEventDestroy(void*) { return kOk; }
API cudaEventRecord(void* event, void* stream) { return report(record_event(static_cast<Event*>(event), stream)); }
API cudaEventSynchronize(void* event) { return counters.syncs++, report(synchronize_event(static_cast<Event*>(event))); }
API cudaEventQuery(void* event) { return event_happened(static_cast<Event*>(event)) ? kOk : kNotReady; }
API cudaEventElapsedTime(float* ms, void* from, void* to) {
  auto a = static_cast<Event*>(from), b = static_cast<Event*>(to);
  if (!a->recorded || !b->recorded) return report(fail(kInvalidHandle, "the time between events that were not recorded"));
  if (!event_happened(a) || !event_happened(b)) return kNotReady;
  return *ms = float(b->time - a->time), kOk;
}

// Graphs ---------------------------------------------------------------------------------------------
API cudaStreamBeginCapture(void* stream, int) { return report(begin_capture(stream)); }
API cudaStreamEndCapture(void* stream, void** graph) {
  return report(end_capture(stream, reinterpret_cast<Graph**>(graph)));
}
API cudaStreamIsCapturing(void* stream, int* status) {
  Stream* s = stream_of(stream);
  return *status = s && s->capture ? s->capture->invalid ? 2 : 1 : 0, kOk;
}
API cudaThreadExchangeStreamCaptureMode(int*) { return kOk; }
API cudaGraphGetNodes(void* graph, void**, size_t* count) { return *count = static_cast<Graph*>(graph)->nodes.size(), kOk; }
API cudaGraphInstantiate(void** made, void* graph, unsigned long long) {
  *made = new Graph(*static_cast<Graph*>(graph));
  return counters.graphs++, kOk;
}
API cudaGraphInstantiateWithFlags(void** made, void* graph, unsigned long long flags) {
  return cudaGraphInstantiate(made, graph, flags);
}
API cudaGraphUpload(void*, void*) { return kOk; }
API cudaGraphLaunch(void* graph, void* stream) { return report(launch_graph(static_cast<Graph*>(graph), stream)); }
API cudaGraphDestroy(void* graph) { return delete static_cast<Graph*>(graph), kOk; }
API cudaGraphExecDestroy(void* graph) { return delete static_cast<Graph*>(graph), kOk; }
