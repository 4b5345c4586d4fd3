// Functions of CUDA that the C library lacks.
#include <cmath>

// The x with erf(x) = y, by Newton's method from Winitzki's approximation.
extern "C" double erfinv(double y) {
  if (!(std::fabs(y) < 1)) return std::fabs(y) == 1 ? std::copysign(HUGE_VAL, y) : NAN;
  double rest = std::log1p(-y * y), a = 2 / (M_PI * 0.147) + rest / 2;
  double x = std::copysign(std::sqrt(std::sqrt(a * a - rest / 0.147) - a), y);
  for (int i = 0; i < 4; i++) {
    // Near one the complement is exact where the function is not.
    double error = std::fabs(y) > 0.5 ? (y < 0 ? -1 : 1) * ((1 - std::fabs(y)) - std::erfc(std::fabs(x))) : std::erf(x) - y;
    x -= error / (M_2_SQRTPI * std::exp(-x * x));
  }
  return x;
}
extern "C" float erfinvf(float y) { return float(erfinv(y)); }
