// The part of libcuda.so.1 that TVM's runtime calls: modules, which are libraries of this machine, and launches.
#include "device.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <set>
#include <unistd.h>

using namespace device;

static const char kMagic[] = "EMULATED";  // then the length in 16 decimals, and the bytes of a shared object

struct Module {
  void* library;
  std::string path;
};
// Their files stay while they are loaded: dlopen knows libraries by their inodes, which are used again.
static std::set<Module*>& loaded_modules = *new std::set<Module*>();  // outlives what is destroyed at exit

namespace device {

int current_device;
static std::string trace;  // JSON, a record per launch
static long traced;
static const long kTraceLimit = 200000;

int run_recorded(const Launch& l) {
  char text[512];
  if (++traced <= kTraceLimit) {
    snprintf(text, sizeof text,
             "%s{\"name\":\"%s\",\"grid\":[%u,%u,%u],\"block\":[%u,%u,%u],\"static_shared\":%u,"
             "\"dynamic_shared\":%u,\"device\":%d,\"graph\":%s}",
             trace.empty() ? "" : ",", l.kernel->name.c_str(), l.grid.x, l.grid.y, l.grid.z, l.block.x, l.block.y,
             l.block.z, l.kernel->info->static_shared, l.dynamic_shared, l.device, in_graph ? "true" : "false");
    trace += text;
  }
  return run(l);
}

}  // namespace device

extern "C" {

int cuInit(unsigned) { return kOk; }
int cuDriverGetVersion(int* version) { return *version = 13000, kOk; }
int cuDeviceGetCount(int* count) { return *count = settings.devices, kOk; }
int cuDeviceGetName(char* name, int bytes, int) { return snprintf(name, size_t(bytes), "emulated device"), kOk; }
// TVM shows the name of an error and not its text, which here says more.
int cuGetErrorName(int status, const char** text) { return *text = message_of(status), kOk; }
int cuGetErrorString(int status, const char** text) { return *text = message_of(status), kOk; }
int cuTensorMapEncodeTiled() { return fail(kNotSupported, "tensor maps are not emulated"); }

int cuModuleLoadData(void** module, const void* image) {
  auto bytes = static_cast<const char*>(image);
  *module = nullptr;
  if (memcmp(bytes, kMagic, 8)) return fail(kInvalidImage, "the code is none of the emulated device");
  size_t length = strtoul(std::string(bytes + 8, 16).c_str(), nullptr, 10);
  char path[] = "/tmp/emulated-XXXXXX";
  int file = mkstemp(path);
  if (file < 0) return fail(kInvalidImage, "no place for the code in /tmp");
  bool whole = write(file, bytes + 24, length) == ssize_t(length);
  close(file);
  void* library = whole ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (!library) {
    unlink(path);
    return fail(kInvalidImage, "the code does not load: %s", whole ? dlerror() : "disk full");
  }
  auto made = new Module{library, path};
  loaded_modules.insert(made);
  *module = made;
  return kOk;
}

int cuModuleUnload(void* module) {
  auto found = loaded_modules.find(static_cast<Module*>(module));
  if (found == loaded_modules.end()) return fail(kInvalidHandle, "unloads a module that is not loaded");
  dlclose((*found)->library);
  unlink((*found)->path.c_str());
  delete *found;
  loaded_modules.erase(found);
  return kOk;
}

int cuModuleGetFunction(void** function, void* module, const char* name) {
  auto info = dlsym(static_cast<Module*>(module)->library, (std::string(name) + "__info").c_str());
  if (!info) return fail(kNotFound, "the module has no kernel %s", name);
  auto kernel = new Kernel{name, static_cast<const KernelInfo*>(info)};
  module_loaded(info);
  *function = kernel;
  return kOk;
}

int cuFuncSetAttribute(void* function, int attribute, int value) {
  auto kernel = static_cast<Kernel*>(function);
  if (attribute != 8) return kOk;  // only the limit of dynamic shared memory changes anything
  if (size_t(value) + kernel->info->static_shared > settings.max_dynamic_shared)
    return fail(kInvalidValue, "kernel %s: %d bytes of dynamic shared memory, at most %zu with its static ones",
                kernel->name.c_str(), value, settings.max_dynamic_shared);
  kernel->max_dynamic = unsigned(value);
  return kOk;
}

struct LaunchConfig {
  unsigned grid[3], block[3], dynamic_shared;
  void* stream;
  void* attributes;
  unsigned attribute_count;
};

// Kernels of this module run instead of those of the same names.
static Module* substitute;

int cuLaunchKernelEx(const LaunchConfig* config, void* function, void** arguments, void**) {
  Launch launch;
  launch.kernel = static_cast<Kernel*>(function);
  void* other = nullptr;
  if (substitute && !cuModuleGetFunction(&other, substitute, launch.kernel->name.c_str()))
    launch.kernel = static_cast<Kernel*>(other);
  launch.grid = {config->grid[0], config->grid[1], config->grid[2]};
  launch.block = {config->block[0], config->block[1], config->block[2]};
  launch.dynamic_shared = config->dynamic_shared;
  launch.device = current_device;
  if (int status = check_launch(launch)) return status;
  const KernelInfo* info = launch.kernel->info;
  for (int i = 0; i < info->parameters; i++) {
    auto bytes = static_cast<char*>(arguments[i]);
    launch.arguments.emplace_back(bytes, bytes + info->sizes[i]);
  }
  return enqueue(config->stream, [launch] { return run_recorded(launch); }, "a launch");
}

int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void* stream, void** arguments, void**) {
  LaunchConfig config{{gx, gy, gz}, {bx, by, bz}, shared, stream, nullptr, 0};
  return cuLaunchKernelEx(&config, function, arguments, nullptr);
}

// For tests ------------------------------------------------------------------------------------------
int device_configure(const char* key, long value) {
  std::string name = key;
  if (name == "devices") settings.devices = int(value);
  else if (name == "major") settings.major = int(value);
  else if (name == "minor") settings.minor = int(value);
  else if (name == "order") settings.order = int(value);
  else if (name == "seed") settings.seed = unsigned(value);
  else if (name == "late") settings.late = value != 0;
  else if (name == "sms") settings.sms = int(value);
  else if (name == "memory") settings.memory = size_t(value);
  else return kInvalidValue;
  return kOk;
}
int device_substitute(const void* image) {
  if (substitute) cuModuleUnload(substitute);
  substitute = nullptr;
  void* module = nullptr;
  int status = image ? cuModuleLoadData(&module, image) : int(kOk);
  substitute = static_cast<Module*>(module);
  return status;
}
void device_counters(long* out) { memcpy(out, &counters, sizeof counters); }
const char* device_trace() { return trace.c_str(); }
void device_reset() {
  trace.clear();
  traced = 0;
  long live = counters.live_bytes;
  counters = Counters{};
  counters.live_bytes = counters.peak_bytes = live;
}
void device_note_written(void* p, size_t n) { mark_written(p, n); }
__attribute__((constructor)) static void begin() { memory_setup(); }
__attribute__((destructor)) static void end() {
  for (Module* module : loaded_modules) unlink(module->path.c_str());
}
}
