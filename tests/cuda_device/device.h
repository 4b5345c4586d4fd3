// The emulated CUDA device: what its parts share.  Execution is by one host thread.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace device {

struct Dim3 {
  unsigned x, y, z;
  uint64_t count() const { return uint64_t(x) * y * z; }
};

// Status codes are those of the CUDA driver and runtime.
enum Status {
  kOk = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kInvalidConfiguration = 9,
  kNoDevice = 101,
  kInvalidImage = 200,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kLaunchFailed = 719,
  kNotSupported = 801,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
  kCaptureUnjoined = 904,
  kCaptureImplicit = 906,
};

// Settings, by `device_configure`.
struct Settings {
  int devices = 1;
  int major = 9, minor = 0;
  int order = 0;          // of threads and blocks: 0 forward, 1 reverse, 2 random
  unsigned seed = 1;      // of the random order
  bool late = false;      // work runs when somebody waits for it, not when it is enqueued
  int sms = 132;
  size_t memory = size_t(8) << 30;  // bytes of each device
  size_t max_dynamic_shared = 232448;
};
extern Settings settings;

struct Counters {
  long launches, blocks, threads, graph_launches, graphs, allocations, frees, live_bytes, peak_bytes, host_to_device,
      device_to_host, device_to_device, copied_bytes, memsets, syncs, host_allocations;
};
extern Counters counters;

// Faults ---------------------------------------------------------------------------------------------
// Record what went wrong; returns `status`, so that API functions can return it.
int fail(int status, const char* format, ...) __attribute__((format(printf, 2, 3)));
const char* message_of(int status);
const char* name_of(int status);

// Memory ---------------------------------------------------------------------------------------------
struct Cell {  // who wrote and read a word last; epochs count the intervals between barriers, over all launches
  uint32_t write_epoch;
  uint16_t writer, write_turn;
  uint32_t read_epoch;
  uint16_t reader, read_turn;
};

struct Region {
  char *begin, *end;  // the bytes that were asked for
  char* mapping;
  size_t mapped;
  Cell* cells;
  size_t cell_bytes;
  int shift;  // log2 of the bytes of a cell
  int device;
  bool freed;
  size_t size() const { return size_t(end - begin); }
};

enum class Access { kRead, kWrite, kAtomic };

int allocate(void** pointer, size_t bytes, int device);
int release(void* pointer);
int allocate_host(void** pointer, size_t bytes);
int release_host(void* pointer);
bool is_pinned(const void* pointer);
Region* region_of(const void* pointer);
bool in_arena(const void* pointer);
// Host-side copies and fills: the range must lie in one live buffer.
int check_range(const void* pointer, size_t bytes, const char* what);
void mark_written(void* pointer, size_t bytes);
// Reports the last write of the thread that runs if it raced with another; before the thread stops.
void settle_write();
// The word that lies at `address`, as people are told: "offset 4 of parameter 2, a buffer of 16 bytes".
std::string place_of(const void* address);
void memory_setup();

// Launches -------------------------------------------------------------------------------------------
struct KernelInfo {  // made by DEVICE_EXPORT of kernel.h
  void (*call)(void**);
  int parameters;
  const int* sizes;
  unsigned static_shared, max_threads;
};

struct Kernel {
  std::string name;
  const KernelInfo* info;
  unsigned max_dynamic = 49152;
};

struct Launch {
  Kernel* kernel;
  Dim3 grid, block;
  unsigned dynamic_shared;
  int device;
  std::vector<std::vector<char>> arguments;
};

struct Running {  // the launch under way
  const Launch* launch;
  std::vector<void*> arguments;
  Dim3 block_index;
  Region shared;
  uint32_t launch_epoch, block_epoch, epoch;
  unsigned thread;  // linear, of the block
  uint16_t turns[32];  // per warp: warp barriers since the last block barrier
};
extern Running* running;

int check_launch(const Launch& launch);
int run_recorded(const Launch& launch);
int run(const Launch& launch);
void module_loaded(const void* any_address);
bool in_stack(const void* address);
bool in_module(const void* address);
[[noreturn]] void abort_kernel(int status, const char* format, ...) __attribute__((format(printf, 2, 3)));
Dim3 thread_index(unsigned linear);
void* dynamic_shared();

// Streams --------------------------------------------------------------------------------------------
struct Stream;
using Work = std::function<int()>;
int enqueue(void* stream, Work work, const char* what, bool capturable = true);
int synchronize(void* stream);
int synchronize_all();
bool capturing_anywhere();
extern int current_device;
extern bool in_graph;  // what runs belongs to a graph

}  // namespace device
