// float16 and bfloat16: stored in 16 bits, computed in float and rounded to nearest, ties to even.
#pragma once

struct DeviceHalf {
  static inline uint16_t narrowed(float x) {
    uint32_t bits = device_bits<uint32_t>(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7FFFFFFF;
    if (rest > 0x7F800000) return uint16_t(sign | 0x7FFF);
    if (rest >= 0x477FF000) return uint16_t(sign | 0x7C00);                      // rounds to infinity
    if (rest < 0x38800000)                                                       // rounds to a subnormal
      return uint16_t(sign | (device_bits<uint32_t>(device_bits<float>(rest) + 0.5f) - 0x3F000000));
    return uint16_t(sign | (rest + 0xC8000FFF + (rest >> 13 & 1)) >> 13);
  }
  static inline float widened(uint16_t h) {
    uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 31) return device_bits<float>(sign | 0x7F800000 | mantissa << 13);
    if (exponent == 0) return device_bits<float>(sign | device_bits<uint32_t>(float(mantissa) * 0x1p-24f));
    return device_bits<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  }
};

struct DeviceBrain {
  static inline uint16_t narrowed(float x) {
    uint32_t bits = device_bits<uint32_t>(x);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return 0x7FFF;
    return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
  }
  static inline float widened(uint16_t h) { return device_bits<float>(uint32_t(h) << 16); }
};

template <class FORMAT> struct Device16 {
  uint16_t bits;
  Device16() = default;
  Device16(float x) : bits(FORMAT::narrowed(x)) {}
  Device16(double x) : Device16(float(x)) {}
  Device16(int x) : Device16(float(x)) {}
  Device16(uint x) : Device16(float(x)) {}
  Device16(long x) : Device16(float(x)) {}
  Device16(unsigned long x) : Device16(float(x)) {}
  Device16(long long x) : Device16(float(x)) {}
  Device16(unsigned long long x) : Device16(float(x)) {}
  Device16(bool x) : Device16(float(x)) {}
  template <class OTHER> explicit Device16(Device16<OTHER> x) : Device16(float(x)) {}
  operator float() const { return FORMAT::widened(bits); }
  Device16& operator+=(Device16 y) { return *this = *this + y; }
  Device16& operator-=(Device16 y) { return *this = *this - y; }
  Device16& operator*=(Device16 y) { return *this = *this * y; }
  Device16& operator/=(Device16 y) { return *this = *this / y; }
  Device16 operator-() const { return -float(*this); }
  friend Device16 operator+(Device16 x, Device16 y) { return float(x) + float(y); }
  friend Device16 operator-(Device16 x, Device16 y) { return float(x) - float(y); }
  friend Device16 operator*(Device16 x, Device16 y) { return float(x) * float(y); }
  friend Device16 operator/(Device16 x, Device16 y) { return float(x) / float(y); }
  friend bool operator<(Device16 x, Device16 y) { return float(x) < float(y); }
  friend bool operator>(Device16 x, Device16 y) { return float(x) > float(y); }
  friend bool operator<=(Device16 x, Device16 y) { return float(x) <= float(y); }
  friend bool operator>=(Device16 x, Device16 y) { return float(x) >= float(y); }
  friend bool operator==(Device16 x, Device16 y) { return float(x) == float(y); }
  friend bool operator!=(Device16 x, Device16 y) { return float(x) != float(y); }
  friend Device16 max(Device16 x, Device16 y) { return fmaxf(x, y); }
  friend Device16 min(Device16 x, Device16 y) { return fminf(x, y); }
#define MATH(F, G) friend Device16 F(Device16 x) { return G(float(x)); }
  MATH(hexp, expf) MATH(hlog, logf) MATH(hsqrt, sqrtf) MATH(htanh, tanhf) MATH(hrcp, 1.0f /) MATH(hfloor, floorf)
  MATH(hceil, ceilf) MATH(htrunc, truncf) MATH(hrint, rintf) MATH(hrsqrt, rsqrtf) MATH(hsin, sinf) MATH(hcos, cosf)
  MATH(__habs, fabsf) MATH(hexp2, exp2f) MATH(hlog2, log2f)
#undef MATH
};
typedef Device16<DeviceHalf> half, __half;
typedef Device16<DeviceBrain> nv_bfloat16, __nv_bfloat16;

#define PAIRS(T, N)                                           \
  struct __attribute__((aligned(4))) N##2 { T x, y; };        \
  struct __attribute__((aligned(8))) N##4 { T x, y, z, w; };  \
  static inline N##2 make_##N##2(T x, T y) { return {x, y}; } \
  static inline N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }
PAIRS(half, half)
PAIRS(nv_bfloat16, nv_bfloat16)
#undef PAIRS
typedef half2 __half2;
typedef nv_bfloat162 __nv_bfloat162;
template <class T> static inline uint device_pair(T x, T y) { return uint(y.bits) << 16 | x.bits; }
#define __pack_half2(x, y) device_pair<half>(x, y)
#define __pack_nv_bfloat162(x, y) device_pair<nv_bfloat16>(x, y)

static inline float __half2float(half x) { return x; }
static inline half __float2half(float x) { return x; }
static inline half __float2half_rn(float x) { return x; }
static inline uint16_t __half_as_ushort(half x) { return x.bits; }
static inline half __ushort_as_half(uint16_t bits) { return device_bits<half>(bits); }
static inline float __bfloat162float(nv_bfloat16 x) { return x; }
static inline nv_bfloat16 __float2bfloat16(float x) { return x; }
static inline nv_bfloat16 __float2bfloat16_rn(float x) { return x; }
