// Device memory: an arena of guarded buffers, and a record per word of who touched it last.
#include "device.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sys/mman.h>

namespace device {

Settings settings;
Counters counters;

static const size_t kPage = 4096, kArena = size_t(1) << 38, kAlign = 256;
static char *arena, *next_free;
static uint32_t* region_at;  // per page of the arena: the number of the buffer there, and 0
static std::vector<Region*> regions{nullptr};
static std::map<char*, size_t> pinned;

static int last_status;
static std::string last_message;

int fail(int status, const char* format, ...) {
  char text[1024];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  last_status = status;
  last_message = text;
  return status;
}

const char* message_of(int status) {
  if (status == last_status && !last_message.empty()) return last_message.c_str();
  return status ? "error of the emulated device" : "no error";
}

const char* name_of(int status) {
  switch (status) {
    case kOk: return "cudaSuccess";
    case kInvalidValue: return "cudaErrorInvalidValue";
    case kOutOfMemory: return "cudaErrorMemoryAllocation";
    case kInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case kNoDevice: return "cudaErrorInvalidDevice";
    case kInvalidImage: return "cudaErrorInvalidKernelImage";
    case kInvalidHandle: return "cudaErrorInvalidResourceHandle";
    case kNotFound: return "cudaErrorSymbolNotFound";
    case kNotReady: return "cudaErrorNotReady";
    case kIllegalAddress: return "cudaErrorIllegalAddress";
    case kLaunchFailed: return "cudaErrorLaunchFailure";
    case kNotSupported: return "cudaErrorNotSupported";
    case kCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case kCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
    case kCaptureUnjoined: return "cudaErrorStreamCaptureUnjoined";
    case kCaptureImplicit: return "cudaErrorStreamCaptureImplicit";
    default: return "cudaErrorUnknown";
  }
}

static void* reserve(size_t bytes, int protection) {
  void* p = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    fprintf(stderr, "emulated device: no address space\n");
    abort();
  }
  return p;
}

void memory_setup() {
  if (arena) return;
  arena = next_free = static_cast<char*>(reserve(kArena, PROT_NONE));
  region_at = static_cast<uint32_t*>(reserve(kArena / kPage * sizeof(uint32_t), PROT_READ | PROT_WRITE));
}

bool in_arena(const void* pointer) {
  auto p = static_cast<const char*>(pointer);
  return arena && p >= arena && p < arena + kArena;
}

// A buffer ends at a guard page, so that code without checks cannot pass its end by much either.
int allocate(void** pointer, size_t bytes, int device) {
  *pointer = nullptr;
  if (counters.live_bytes + long(bytes) > long(settings.memory))
    return fail(kOutOfMemory, "out of device memory: %zu bytes more than %ld of %zu", bytes, counters.live_bytes,
                settings.memory);
  size_t padded = (bytes + kAlign - 1) / kAlign * kAlign, room = (padded + kPage - 1) / kPage * kPage;
  if (!room) room = kPage;
  if (next_free + room + 2 * kPage > arena + kArena) return fail(kOutOfMemory, "the arena of the device is used up");
  auto region = new Region();
  region->mapping = next_free;
  region->mapped = room;
  region->begin = next_free + room - padded;
  region->end = region->begin + bytes;
  region->shift = 2;
  region->device = device;
  mprotect(region->mapping, room, PROT_READ | PROT_WRITE);
  memset(region->mapping, 0xFF, room);  // NaN as a float
  region->cell_bytes = (room / 4) * sizeof(Cell);
  region->cells = static_cast<Cell*>(reserve(region->cell_bytes, PROT_READ | PROT_WRITE));
  next_free += room + kPage;
  for (char* page = region->mapping; page < next_free; page += kPage)
    region_at[(page - arena) / kPage] = uint32_t(regions.size());
  regions.push_back(region);
  counters.allocations++;
  counters.live_bytes += long(bytes);
  if (counters.live_bytes > counters.peak_bytes) counters.peak_bytes = counters.live_bytes;
  *pointer = region->begin;
  return kOk;
}

int release(void* pointer) {
  if (!pointer) return kOk;
  Region* region = region_of(pointer);
  if (!region || region->begin != pointer) return fail(kInvalidValue, "freed is what was never allocated");
  if (region->freed) return fail(kInvalidValue, "a buffer of %zu bytes is freed twice", region->size());
  region->freed = true;
  counters.frees++;
  counters.live_bytes -= long(region->size());
  // The addresses are not used again: whoever still has them is told.
  mmap(region->mapping, region->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  munmap(region->cells, region->cell_bytes);
  region->cells = nullptr;
  return kOk;
}

Region* region_of(const void* pointer) {
  if (!in_arena(pointer)) return nullptr;
  return regions[region_at[(static_cast<const char*>(pointer) - arena) / kPage]];
}

int allocate_host(void** pointer, size_t bytes) {
  *pointer = aligned_alloc(kAlign, (bytes + kAlign) / kAlign * kAlign);
  if (!*pointer) return fail(kOutOfMemory, "no memory for a pinned buffer of %zu bytes", bytes);
  memset(*pointer, 0xFF, bytes);
  pinned[static_cast<char*>(*pointer)] = bytes;
  counters.host_allocations++;
  return kOk;
}

int release_host(void* pointer) {
  if (!pointer) return kOk;
  if (!pinned.erase(static_cast<char*>(pointer))) return fail(kInvalidValue, "freed is what was never pinned");
  free(pointer);
  return kOk;
}

bool is_pinned(const void* pointer) {
  auto p = static_cast<char*>(const_cast<void*>(pointer));
  auto after = pinned.upper_bound(p);
  if (after == pinned.begin()) return false;
  --after;
  return p < after->first + after->second;
}

int check_range(const void* pointer, size_t bytes, const char* what) {
  auto p = static_cast<const char*>(pointer);
  Region* region = region_of(pointer);
  if (!bytes) return kOk;
  if (!region) return fail(kInvalidValue, "%s: not a device address", what);
  if (region->freed) return fail(kInvalidValue, "%s: a freed buffer of %zu bytes", what, region->size());
  if (p < region->begin || p + bytes > region->end)
    return fail(kInvalidValue, "%s: %zu bytes at offset %ld of a buffer of %zu bytes", what, bytes,
                long(p - region->begin), region->size());
  return kOk;
}

// The record of a word -------------------------------------------------------------------------------
static const uint32_t kHostEpoch = 1;
static const uint16_t kAtomicWriter = 0x8000, kWholeWarp = 0x4000, kManyWarps = 0xFFFF;

static Cell* cell_of(Region* region, const char* p) {
  // Cells count from the mapping, which is aligned.
  return region->cells + (size_t(p - region->mapping) >> region->shift);
}

static void split_into_bytes(Region* region) {
  size_t words = region->mapped / 4, bytes = region->mapped * sizeof(Cell);
  region->shift = 0;
  if (region->device < 0) {  // shared memory has room for them
    for (size_t i = words; i-- > 0;)
      for (size_t k = 4; k-- > 0;) region->cells[4 * i + k] = region->cells[i];
    return;
  }
  auto cells = static_cast<Cell*>(reserve(bytes, PROT_READ | PROT_WRITE));
  for (size_t i = 0; i < words; i++)
    if (region->cells[i].write_epoch || region->cells[i].read_epoch)
      for (size_t k = 0; k < 4; k++) cells[4 * i + k] = region->cells[i];
  munmap(region->cells, region->cell_bytes);
  region->cells = cells;
  region->cell_bytes = bytes;
}

void mark_written(void* pointer, size_t bytes) {
  Region* region = region_of(pointer);
  if (!region || region->freed || !bytes) return;
  auto p = static_cast<char*>(pointer);
  if (region->shift == 2 && (reinterpret_cast<uintptr_t>(p) % 4 || (bytes % 4 && p + bytes != region->end)))
    split_into_bytes(region);
  Cell *first = cell_of(region, p), *last = cell_of(region, p + bytes - 1);
  for (Cell* c = first; c <= last; c++) *c = Cell{kHostEpoch, 0, 0, 0, 0, 0};
}

std::string place_of(const void* address) {
  auto p = static_cast<const char*>(address);
  char text[200];
  if (!running) return "an address outside a launch";
  if (p >= running->shared.mapping && p < running->shared.mapping + running->shared.mapped) {
    snprintf(text, sizeof text, "offset %ld of %zu bytes of shared memory", long(p - running->shared.begin),
             running->shared.size());
    return text;
  }
  // The parameter whose buffer is nearest.
  int nearest = -1;
  size_t distance = size_t(1) << 30;
  const KernelInfo* info = running->launch->kernel->info;
  for (int i = 0; i < info->parameters; i++) {
    if (info->sizes[i] != sizeof(void*)) continue;
    char* q;
    memcpy(&q, running->arguments[i], sizeof q);
    Region* region = region_of(q);
    if (!region) continue;
    size_t d = p < region->begin ? region->begin - p : p >= region->end ? p - region->end + 1 : 0;
    if (d < distance) distance = d, nearest = i;
  }
  if (nearest < 0) return in_arena(p) ? "device memory that no parameter names" : "an address that is none of the device";
  char* q;
  memcpy(&q, running->arguments[nearest], sizeof q);
  Region* region = region_of(q);
  snprintf(text, sizeof text, "offset %ld of parameter %d, a %sbuffer of %zu bytes", long(p - region->begin), nearest,
           region->freed ? "freed " : "", region->size());
  return text;
}

[[noreturn]] static void report(int status, const char* verb, size_t bytes, const void* address, const char* why,
                                int other = -1) {
  char who[64] = "";
  if (other >= 0) {
    Dim3 t = thread_index(unsigned(other));
    snprintf(who, sizeof who, " by thread (%u,%u,%u)", t.x, t.y, t.z);
  }
  abort_kernel(status, "%s %zu bytes at %s%s%s", verb, bytes, place_of(address).c_str(), why, who);
}

// Threads of a block are ordered by block barriers (the epoch) and, in a warp, by warp barriers (the turn).
static bool ordered(uint32_t epoch, uint16_t turn, unsigned thread, bool whole_warp) {
  if (epoch != running->epoch) return true;
  unsigned me = running->thread, warp = thread >> 5;
  if (!whole_warp && thread == me) return true;
  return warp == me >> 5 && turn != running->turns[warp];
}

// Lanes of a warp may write one word at a time if they write the same: which of them comes last does not matter then.
// What a lane writes is seen when it does something else.
static struct {
  const void* address;  // of a write over another lane's; null: none
  size_t bytes;
  char before[16];
  int writer;
} overwritten;

void settle_write() {
  const void* address = overwritten.address;
  if (!address) return;
  overwritten.address = nullptr;
  if (memcmp(address, overwritten.before, overwritten.bytes))
    report(kLaunchFailed, "has written", overwritten.bytes, address, ", written without a barrier in between: a race, with the write",
           overwritten.writer);
}

static void check_cell(Cell* c, Access access, size_t bytes, const void* address, bool shared) {
  const char* verb = access == Access::kRead ? "reads" : access == Access::kWrite ? "writes" : "updates";
  Running& r = *running;
  uint16_t writer = c->writer & 0x3FF;
  bool written = c->write_epoch >= (shared ? r.block_epoch : kHostEpoch);
  if (access != Access::kWrite && !written)
    report(kLaunchFailed, verb, bytes, address, ", which nothing has written");
  bool both_atomic = access == Access::kAtomic && (c->writer & kAtomicWriter);
  if (written && c->write_epoch >= r.launch_epoch && !both_atomic) {
    if (c->write_epoch < r.block_epoch)
      report(kLaunchFailed, verb, bytes, address, ", written by another block of this launch: a race");
    if (access == Access::kWrite && writer >> 5 == r.thread >> 5 && bytes <= sizeof overwritten.before &&
        !ordered(c->write_epoch, c->write_turn, writer, false)) {
      overwritten.address = address;
      overwritten.bytes = bytes;
      overwritten.writer = writer;
      memcpy(overwritten.before, address, bytes);
    } else if (!ordered(c->write_epoch, c->write_turn, writer, false))
      report(kLaunchFailed, verb, bytes, address, ", written without a barrier in between: a race, with the write",
             writer);
  }
  if (access == Access::kRead) {
    if (c->read_epoch >= r.launch_epoch && c->read_epoch < r.block_epoch && !shared)
      return;  // another block's read stays: it conflicts with any write here
    uint16_t reader = uint16_t(r.thread);
    if (c->read_epoch == r.epoch && c->reader != reader) {
      bool same_warp = c->reader != kManyWarps && ((c->reader & 0x3FF) >> 5) == r.thread >> 5;
      if (!same_warp) reader = kManyWarps;
      else if (c->read_turn == r.turns[r.thread >> 5]) reader = uint16_t(r.thread | kWholeWarp);
    }
    c->read_epoch = r.epoch;
    c->reader = reader;
    c->read_turn = r.turns[r.thread >> 5];
    return;
  }
  if (c->read_epoch >= r.launch_epoch && !both_atomic) {
    if (c->read_epoch < r.block_epoch && !shared)
      report(kLaunchFailed, verb, bytes, address, ", read by another block of this launch: a race");
    if (c->read_epoch == r.epoch) {
      bool many = c->reader == kManyWarps;
      unsigned reader = c->reader & 0x3FF;
      if (many || !ordered(c->read_epoch, c->read_turn, reader, c->reader & kWholeWarp))
        report(kLaunchFailed, verb, bytes, address, ", read without a barrier in between: a race, with the read",
               many ? -1 : int(reader));
    }
  }
  c->write_epoch = r.epoch;
  c->writer = uint16_t(r.thread | (access == Access::kAtomic ? kAtomicWriter : 0));
  c->write_turn = r.turns[r.thread >> 5];
}

static void check(const void* address, size_t bytes, Access access) {
  if (!running) return;
  settle_write();
  auto p = static_cast<const char*>(address);
  const char* verb = access == Access::kRead ? "reads" : access == Access::kWrite ? "writes" : "updates";
  Region* region = &running->shared;
  bool shared = p >= region->mapping && p < region->mapping + region->mapped;
  if (!shared) {
    region = region_of(p);
    if (!region) {
      if (in_stack(p)) return;
      if (access == Access::kRead && in_module(p)) return;
      report(kIllegalAddress, verb, bytes, p, in_arena(p) ? "" : ": a host address, or none");
    }
  }
  if (region->freed) report(kIllegalAddress, verb, bytes, p, "");
  auto fixed = region->begin + running->launch->kernel->info->static_shared;
  bool between = shared && p + bytes > fixed && p < static_cast<char*>(dynamic_shared());
  if (p < region->begin || p + bytes > region->end || between) report(kIllegalAddress, verb, bytes, p, ": out of bounds");
  if (region->device >= 0 && region->device != running->launch->device)
    report(kIllegalAddress, verb, bytes, p, ": memory of another device");
  if (reinterpret_cast<uintptr_t>(p) % bytes) report(kIllegalAddress, verb, bytes, p, ": the address is misaligned");
  if (region->shift == 2 && bytes < 4) split_into_bytes(region);
  size_t step = size_t(1) << region->shift;
  for (size_t at = 0; at < bytes; at += step) check_cell(cell_of(region, p + at), access, bytes, p, shared);
}

}  // namespace device

// What the compiler calls for every access under -fsanitize=thread.
using device::Access;
#define ACCESS(BYTES)                                                                            \
  extern "C" void __tsan_read##BYTES(void* p) { device::check(p, BYTES, Access::kRead); }        \
  extern "C" void __tsan_write##BYTES(void* p) { device::check(p, BYTES, Access::kWrite); }      \
  extern "C" void __tsan_unaligned_read##BYTES(void* p) { device::check(p, BYTES, Access::kRead); } \
  extern "C" void __tsan_unaligned_write##BYTES(void* p) { device::check(p, BYTES, Access::kWrite); }
ACCESS(1) ACCESS(2) ACCESS(4) ACCESS(8) ACCESS(16)
static void check_all(void* p, size_t n, Access access) {
  size_t step = (n | reinterpret_cast<uintptr_t>(p)) % 4 ? 1 : 4;
  for (size_t i = 0; i < n; i += step) device::check(static_cast<char*>(p) + i, step, access);
}
extern "C" void __tsan_read_range(void* p, size_t n) { check_all(p, n, Access::kRead); }
extern "C" void __tsan_write_range(void* p, size_t n) { check_all(p, n, Access::kWrite); }
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void device_atomic(void* p, unsigned bytes) { device::check(p, bytes, Access::kAtomic); }
extern "C" void device_misaligned(const void* p, unsigned bytes) {
  device::report(device::kIllegalAddress, "touches", bytes, p, ": the address is misaligned");
}
