// CUDA C for the emulated device: what a kernel's text may use.  No headers: they cost most of the time of compiling.
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long uint64_t;
typedef unsigned long size_t;
typedef unsigned int uint;
typedef unsigned char uchar;
typedef unsigned short ushort;

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define alignas(n) __attribute__((aligned(n)))
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define CUDART_INF_F __builtin_inff()
#define CUDART_NAN_F __builtin_nanf("")
#define CUDART_INF __builtin_inf()
#define CUDART_NAN __builtin_nan("")
#define UNCHECKED __attribute__((no_sanitize_thread, noinline, unused)) static

// The engine; see launch.cpp and memory.cpp.
extern "C" {
unsigned device_index(int which) __attribute__((const));
void* device_static_shared() __attribute__((const));
void* device_dynamic_shared() __attribute__((const));
unsigned device_barrier(unsigned line, unsigned vote);
unsigned device_active_mask();
void device_fence();
void device_warp_put(unsigned line, unsigned mask, uint64_t value);
uint64_t device_warp_get(unsigned lane);
unsigned device_warp_lanes();
void device_trap(unsigned line);
void device_atomic(void* p, unsigned bytes);
void device_misaligned(const void* p, unsigned bytes);
}

// Indices: members without bytes, so that no access of memory is seen.
template <int WHICH> struct DeviceIndex { operator unsigned() const { return device_index(WHICH); } };
template <int FIRST> struct DeviceIndices {
  static constexpr DeviceIndex<FIRST> x{};
  static constexpr DeviceIndex<FIRST + 1> y{};
  static constexpr DeviceIndex<FIRST + 2> z{};
};
static constexpr DeviceIndices<0> threadIdx{};
static constexpr DeviceIndices<3> blockIdx{};
static constexpr DeviceIndices<6> blockDim{};
static constexpr DeviceIndices<9> gridDim{};
#define warpSize 32

// Vectors --------------------------------------------------------------------------------------------
#define VECTORS(T, N, A)                                                                    \
  struct __attribute__((aligned(2 * A))) N##2 { T x, y; };                                  \
  struct N##3 { T x, y, z; };                                                               \
  struct __attribute__((aligned(4 * A > 16 ? 16 : 4 * A))) N##4 { T x, y, z, w; };          \
  static inline N##2 make_##N##2(T x, T y) { return {x, y}; }                               \
  static inline N##3 make_##N##3(T x, T y, T z) { return {x, y, z}; }                       \
  static inline N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTORS(signed char, char, 1)
VECTORS(uchar, uchar, 1)
VECTORS(short, short, 2)
VECTORS(ushort, ushort, 2)
VECTORS(int, int, 4)
VECTORS(uint, uint, 4)
VECTORS(float, float, 4)
VECTORS(long, long, 8)
VECTORS(unsigned long, ulong, 8)
VECTORS(long long, longlong, 8)
VECTORS(unsigned long long, ulonglong, 8)
VECTORS(double, double, 8)
#undef VECTORS
// The parts of a vector are read and written one by one here, and all at once on a device.
template <class T> __attribute__((always_inline)) static inline T* device_vector(const void* p) {
  if ((size_t)p % sizeof(T)) device_misaligned(p, sizeof(T));
  return (T*)p;
}

// Mathematics ----------------------------------------------------------------------------------------
#define UNARY(F) extern "C" float F##f(float) noexcept; extern "C" double F(double) noexcept;
#define BINARY(F) extern "C" float F##f(float, float) noexcept; extern "C" double F(double, double) noexcept;
UNARY(exp) UNARY(exp2) UNARY(exp10) UNARY(expm1) UNARY(log) UNARY(log2) UNARY(log10) UNARY(log1p) UNARY(sqrt)
UNARY(cbrt) UNARY(sin) UNARY(cos) UNARY(tan) UNARY(asin) UNARY(acos) UNARY(atan) UNARY(sinh) UNARY(cosh) UNARY(tanh)
UNARY(asinh) UNARY(acosh) UNARY(atanh) UNARY(erfinv) UNARY(erf) UNARY(erfc) UNARY(tgamma) UNARY(lgamma) UNARY(fabs) UNARY(floor)
UNARY(ceil) UNARY(trunc) UNARY(round) UNARY(rint) UNARY(nearbyint)
BINARY(pow) BINARY(fmod) BINARY(remainder) BINARY(atan2) BINARY(hypot) BINARY(fmax) BINARY(fmin) BINARY(copysign)
BINARY(nextafter) BINARY(fdim)
#undef UNARY
#undef BINARY
extern "C" float fmaf(float, float, float) noexcept;
extern "C" double fma(double, double, double) noexcept;
extern "C" float ldexpf(float, int) noexcept;
extern "C" double ldexp(double, int) noexcept;
extern "C" int abs(int) noexcept;
extern "C" long long llabs(long long) noexcept;
// CUDA overloads the names of double for float.
#define OVERLOAD(F) static inline float F(float x) { return F##f(x); }
OVERLOAD(exp) OVERLOAD(log) OVERLOAD(sqrt) OVERLOAD(sin) OVERLOAD(cos) OVERLOAD(tanh) OVERLOAD(erf) OVERLOAD(fabs)
OVERLOAD(floor) OVERLOAD(ceil) OVERLOAD(trunc) OVERLOAD(round) OVERLOAD(exp2) OVERLOAD(log2) OVERLOAD(log1p)
OVERLOAD(expm1) OVERLOAD(rint) OVERLOAD(nearbyint)
#undef OVERLOAD
static inline float pow(float x, float y) { return powf(x, y); }
static inline float abs(float x) { return fabsf(x); }
static inline double abs(double x) { return fabs(x); }
static inline long long abs(long long x) { return llabs(x); }
static inline long abs(long x) { return x < 0 ? -x : x; }
#define isnan(x) __builtin_isnan(x)
#define isinf(x) __builtin_isinf(x)
#define isfinite(x) __builtin_isfinite(x)
#define signbit(x) __builtin_signbit(x)
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678118654752f); }
static inline float __expf(float x) { return expf(x); }
static inline float __logf(float x) { return logf(x); }
static inline float __log2f(float x) { return log2f(x); }
static inline float __sinf(float x) { return sinf(x); }
static inline float __cosf(float x) { return cosf(x); }
static inline float __tanf(float x) { return tanf(x); }
static inline float __powf(float x, float y) { return powf(x, y); }
static inline float __fdividef(float x, float y) { return x / y; }
// Rounded once, and not contracted.
#define ROUNDED(T, P, TWICE)                                                                                   \
  __attribute__((optimize("fp-contract=off"))) UNCHECKED T __##P##add_rn(T x, T y) { return x + y; }           \
  __attribute__((optimize("fp-contract=off"))) UNCHECKED T __##P##sub_rn(T x, T y) { return x - y; }           \
  __attribute__((optimize("fp-contract=off"))) UNCHECKED T __##P##mul_rn(T x, T y) { return x * y; }           \
  static inline T __##P##div_rn(T x, T y) { return x / y; }
ROUNDED(float, f, double)
ROUNDED(double, d, double)
#undef ROUNDED
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline double __dsqrt_rn(double x) { return sqrt(x); }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline double __drcp_rn(double x) { return 1.0 / x; }
static inline float __saturatef(float x) { return x > 0.0f ? x < 1.0f ? x : 1.0f : 0.0f; }

static inline float max(float x, float y) { return fmaxf(x, y); }
static inline float min(float x, float y) { return fminf(x, y); }
static inline double max(double x, double y) { return fmax(x, y); }
static inline double min(double x, double y) { return fmin(x, y); }
static inline double max(float x, double y) { return fmax(x, y); }
static inline double max(double x, float y) { return fmax(x, y); }
static inline double min(float x, double y) { return fmin(x, y); }
static inline double min(double x, float y) { return fmin(x, y); }
#define ORDER(T)                                           \
  static inline T max(T x, T y) { return x > y ? x : y; }  \
  static inline T min(T x, T y) { return x < y ? x : y; }
ORDER(int) ORDER(uint) ORDER(long) ORDER(unsigned long) ORDER(long long) ORDER(unsigned long long)
#undef ORDER
static inline uint max(int x, uint y) { return max(uint(x), y); }
static inline uint max(uint x, int y) { return max(x, uint(y)); }
static inline uint min(int x, uint y) { return min(uint(x), y); }
static inline uint min(uint x, int y) { return min(x, uint(y)); }
static inline long max(int x, long y) { return max(long(x), y); }
static inline long max(long x, int y) { return max(x, long(y)); }
static inline long min(int x, long y) { return min(long(x), y); }
static inline long min(long x, int y) { return min(x, long(y)); }

// Bits -----------------------------------------------------------------------------------------------
template <class TO, class FROM> static inline TO device_bits(FROM x) { return __builtin_bit_cast(TO, x); }
static inline float __int_as_float(int x) { return device_bits<float>(x); }
static inline int __float_as_int(float x) { return device_bits<int>(x); }
static inline float __uint_as_float(uint x) { return device_bits<float>(x); }
static inline uint __float_as_uint(float x) { return device_bits<uint>(x); }
static inline double __longlong_as_double(long long x) { return device_bits<double>(x); }
static inline long long __double_as_longlong(double x) { return device_bits<long long>(x); }
static inline int __double2loint(double x) { return int(device_bits<uint64_t>(x)); }
static inline int __double2hiint(double x) { return int(device_bits<uint64_t>(x) >> 32); }
static inline double __hiloint2double(int hi, int lo) { return device_bits<double>(uint64_t(uint(hi)) << 32 | uint(lo)); }
static inline int __float2int_rn(float x) { return int(__builtin_rintf(x)); }
static inline int __float2int_rz(float x) { return int(x); }
static inline int __float2int_rd(float x) { return int(floorf(x)); }
static inline uint __float2uint_rn(float x) { return uint(__builtin_rintf(x)); }
static inline long long __float2ll_rn(float x) { return (long long)(__builtin_rintf(x)); }
static inline float __int2float_rn(int x) { return float(x); }
static inline float __uint2float_rn(uint x) { return float(x); }
static inline int __mulhi(int x, int y) { return int((long(x) * y) >> 32); }
static inline uint __umulhi(uint x, uint y) { return uint((uint64_t(x) * y) >> 32); }
static inline uint64_t __umul64hi(uint64_t x, uint64_t y) { return uint64_t((unsigned __int128)x * y >> 64); }
static inline int __clz(int x) { return x ? __builtin_clz(uint(x)) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
static inline int __popc(uint x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline uint __brev(uint x) {
  uint y = 0;
  for (int i = 0; i < 32; i++) y |= (x >> i & 1) << (31 - i);
  return y;
}
static inline uint __byte_perm(uint x, uint y, uint s) {
  uint64_t both = uint64_t(y) << 32 | x;
  uint result = 0;
  for (int i = 0; i < 4; i++) result |= uint(both >> 8 * (s >> 4 * i & 7) & 255) << 8 * i;
  return result;
}
static inline uint __funnelshift_l(uint lo, uint hi, uint n) { return uint((uint64_t(hi) << 32 | lo) << (n & 31) >> 32); }
static inline uint __funnelshift_r(uint lo, uint hi, uint n) { return uint((uint64_t(hi) << 32 | lo) >> (n & 31)); }
static inline int __dp4a(int x, int y, int c) {
  for (int i = 0; i < 4; i++) c += int8_t(x >> 8 * i) * int8_t(y >> 8 * i);
  return c;
}
template <class T> static inline T __ldg(const T* p) { return *p; }
template <class T> static inline T __ldcs(const T* p) { return *p; }
template <class T> static inline T __ldcg(const T* p) { return *p; }
template <class T> static inline void __stcs(T* p, T v) { *p = v; }

// Barriers and warps ---------------------------------------------------------------------------------
#define __syncthreads() ((void)device_barrier(__LINE__, 0))
#define __syncthreads_count(p) int(device_barrier(__LINE__, (p) != 0))
#define __syncthreads_or(p) int(device_barrier(__LINE__, (p) != 0) != 0)
#define __syncthreads_and(p) int(device_barrier(__LINE__, (p) == 0) == 0)
#define __threadfence() device_fence()
#define __threadfence_block() ((void)0)
#define __trap() device_trap(__LINE__)
#define assert(x) ((x) ? (void)0 : device_trap(__LINE__))
#define __activemask() device_active_mask()
static inline void device_sync_warp(unsigned line, unsigned mask = 0xFFFFFFFFu) { device_warp_put(line, mask, 0); }
#define __syncwarp(...) device_sync_warp(__LINE__ __VA_OPT__(,) __VA_ARGS__)

template <class T> struct DeviceWord { uint64_t bits; };
template <class T> UNCHECKED uint64_t device_pack(T v) {
  static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &v, sizeof(T));
  return bits;
}
template <class T> UNCHECKED T device_unpack(uint64_t bits) {
  T v;
  __builtin_memcpy(&v, &bits, sizeof(T));
  return v;
}
static inline unsigned device_lane() {
  return (device_index(0) + device_index(6) * (device_index(1) + device_index(7) * device_index(2))) & 31;
}
template <class T> static inline T device_shuffle(unsigned line, unsigned mask, T v, unsigned lane) {
  device_warp_put(line, mask, device_pack(v));
  return device_unpack<T>(device_warp_get(lane));
}
template <class T> static inline T device_down(unsigned line, unsigned mask, T v, unsigned delta, int width = 32) {
  unsigned me = device_lane(), to = me + delta;
  return device_shuffle(line, mask, v, to / width == me / width ? to : me);
}
template <class T> static inline T device_up(unsigned line, unsigned mask, T v, unsigned delta, int width = 32) {
  unsigned me = device_lane();
  return device_shuffle(line, mask, v, me % width >= delta ? me - delta : me);
}
template <class T> static inline T device_xor(unsigned line, unsigned mask, T v, int bits, int width = 32) {
  unsigned me = device_lane(), to = me ^ unsigned(bits);
  return device_shuffle(line, mask, v, to / width <= me / width ? to : me);
}
template <class T> static inline T device_from(unsigned line, unsigned mask, T v, int lane, int width = 32) {
  unsigned me = device_lane();
  return device_shuffle(line, mask, v, me / width * width + unsigned(lane) % width);
}
#define __shfl_down_sync(...) device_down(__LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) device_up(__LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) device_xor(__LINE__, __VA_ARGS__)
#define __shfl_sync(...) device_from(__LINE__, __VA_ARGS__)
static inline unsigned device_ballot(unsigned line, unsigned mask, int p) {
  device_warp_put(line, mask, p != 0);
  unsigned lanes = device_warp_lanes(), result = 0;
  for (unsigned lane = 0; lane < 32; lane++)
    if (lanes >> lane & 1 && device_warp_get(lane)) result |= 1u << lane;
  return result;
}
#define __ballot_sync(mask, p) device_ballot(__LINE__, mask, p)
#define __any_sync(mask, p) int(device_ballot(__LINE__, mask, p) != 0)
#define __all_sync(mask, p) int(device_ballot(__LINE__, mask, (p) == 0) == 0)
template <class T, class F> static inline T device_reduce(unsigned line, unsigned mask, T v, F join) {
  device_warp_put(line, mask, device_pack(v));
  unsigned lanes = device_warp_lanes();
  bool first = true;
  T result = v;
  for (unsigned lane = 0; lane < 32; lane++) {
    if (!(lanes >> lane & 1)) continue;
    T other = device_unpack<T>(device_warp_get(lane));
    result = first ? other : join(result, other);
    first = false;
  }
  return result;
}
#define __reduce_add_sync(mask, v) device_reduce(__LINE__, mask, v, [](auto a, auto b) { return a + b; })
#define __reduce_max_sync(mask, v) device_reduce(__LINE__, mask, v, [](auto a, auto b) { return a > b ? a : b; })
#define __reduce_min_sync(mask, v) device_reduce(__LINE__, mask, v, [](auto a, auto b) { return a < b ? a : b; })

// Atomics --------------------------------------------------------------------------------------------
template <class T> struct DeviceSame { typedef T type; };
#define ATOMIC(F, EXPRESSION)                                                          \
  template <class T> UNCHECKED T F(T* p, typename DeviceSame<T>::type v) {             \
    device_atomic(p, sizeof(T));                                                       \
    T old = *p;                                                                        \
    *p = T(EXPRESSION);                                                                \
    return old;                                                                        \
  }
ATOMIC(atomicAdd, old + v)
ATOMIC(atomicSub, old - v)
ATOMIC(atomicExch, v)
ATOMIC(atomicMin, v < old ? v : old)
ATOMIC(atomicMax, v > old ? v : old)
ATOMIC(atomicAnd, old & v)
ATOMIC(atomicOr, old | v)
ATOMIC(atomicXor, old ^ v)
ATOMIC(atomicInc, old >= v ? 0 : old + 1)
ATOMIC(atomicDec, old == 0 || old > v ? v : old - 1)
#undef ATOMIC
template <class T>
UNCHECKED T atomicCAS(T* p, typename DeviceSame<T>::type expected, typename DeviceSame<T>::type v) {
  device_atomic(p, sizeof(T));
  T old = *p;
  if (old == expected) *p = v;
  return old;
}

// Calling a kernel with an array of pointers to its arguments ----------------------------------------
struct KernelInfo {
  void (*call)(void**);
  int parameters;
  const int* sizes;
  unsigned static_shared, max_threads;
};
template <int... I> struct DevicePlaces {};
template <int N, int... I> struct DeviceCount : DeviceCount<N - 1, N - 1, I...> {};
template <int... I> struct DeviceCount<0, I...> { typedef DevicePlaces<I...> type; };
template <auto F> struct DeviceKernel;
template <class... A, void (*F)(A...)> struct DeviceKernel<F> {
  static constexpr int count = sizeof...(A);
  static constexpr int sizes[count + 1] = {int(sizeof(A))..., 0};
  template <int... I> UNCHECKED void spread(void** a, DevicePlaces<I...>) { F(*static_cast<A*>(a[I])...); }
  UNCHECKED void call(void** a) { spread(a, typename DeviceCount<count>::type()); }
};
#define DEVICE_EXPORT(NAME, SHARED, BOUNDS)                                       \
  extern "C" __attribute__((visibility("default"))) const KernelInfo NAME##__info = { \
      DeviceKernel<&NAME>::call, DeviceKernel<&NAME>::count, DeviceKernel<&NAME>::sizes, SHARED, BOUNDS};
