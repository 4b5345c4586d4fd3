// libcublas.so.13 and libcublasLt.so.13 for the emulated device: products by plain loops, and a record of how they
// were asked for.  Results go to the device by the runtime's copy, in the stream that was set.
#include <cstdint>
#include <cstring>
#include <vector>

extern "C" int cudaMemcpyAsync(void*, const void*, size_t, int, void*);
extern "C" int cudaStreamSynchronize(void*);

namespace {
struct Handle {
  void* stream;
  void* workspace;
  size_t workspace_bytes;
  int math_mode;
};
struct Record {
  int64_t created, streams, workspace_bytes, math_mode, calls, compute_type, data_type, has_workspace;
} record;

float from_half(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023, bits;
  if (exponent == 31) bits = sign | 0x7F800000 | fraction << 13;
  else if (exponent) bits = sign | (exponent + 112) << 23 | fraction << 13;
  else {
    float value = float(fraction) * 0x1p-24f;
    return sign ? -value : value;
  }
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

double load(const void* p, int type, int64_t i) {
  if (type == 0) return static_cast<const float*>(p)[i];
  if (type == 1) return static_cast<const double*>(p)[i];
  uint16_t bits = static_cast<const uint16_t*>(p)[i];
  if (type == 2) return from_half(bits);
  uint32_t wide = uint32_t(bits) << 16;
  float value;
  memcpy(&value, &wide, 4);
  return value;
}

void store(std::vector<char>& to, int type, int64_t i, double value) {
  if (type == 1) {
    memcpy(&to[8 * i], &value, 8);
  } else if (type == 0) {
    float f = float(value);
    memcpy(&to[4 * i], &f, 4);
  } else if (type == 2) {
    _Float16 h = _Float16(value);
    memcpy(&to[2 * i], &h, 2);
  } else {
    float f = float(value);
    uint32_t bits;
    memcpy(&bits, &f, 4);
    bits += 0x7FFF + (bits >> 16 & 1);
    uint16_t h = uint16_t(bits >> 16);
    memcpy(&to[2 * i], &h, 2);
  }
}
}  // namespace

extern "C" {
const Record* cublas_record() { return &record; }

int cublasCreate_v2(Handle** made) { return *made = new Handle(), record.created++, 0; }
int cublasSetStream_v2(Handle* handle, void* stream) {
  handle->stream = stream;
  handle->workspace = nullptr;  // as the real one
  record.streams++;
  return 0;
}
int cublasSetWorkspace_v2(Handle* handle, void* workspace, size_t bytes) {
  handle->workspace = workspace;
  record.workspace_bytes = int64_t(bytes);
  return 0;
}
int cublasSetMathMode(Handle* handle, int mode) { return handle->math_mode = mode, record.math_mode = mode, 0; }

// Column-major: c[i + j ldc] = sum over l of op(a)[i, l] op(b)[l, j].
int cublasGemmStridedBatchedEx(Handle* handle, int trans_a, int trans_b, int m, int n, int k, const void* alpha,
                               const void* a, int a_type, int lda, int64_t stride_a, const void* b, int b_type, int ldb,
                               int64_t stride_b, const void* beta, void* c, int c_type, int ldc, int64_t stride_c,
                               int batch, int compute_type, int) {
  if (m < 0 || n < 0 || k < 0 || lda < (trans_a ? k : m) || ldb < (trans_b ? n : k) || ldc < m) return 7;
  record.calls++;
  record.compute_type = compute_type;
  record.data_type = a_type;
  record.has_workspace = handle->workspace != nullptr;
  bool wide = c_type == 1;
  double scale = wide ? *static_cast<const double*>(alpha) : *static_cast<const float*>(alpha);
  double keep = wide ? *static_cast<const double*>(beta) : *static_cast<const float*>(beta);
  if (keep != 0) return 7;
  size_t item = c_type == 0 ? 4 : c_type == 1 ? 8 : 2;
  cudaStreamSynchronize(handle->stream);
  for (int q = 0; q < batch; q++)
    for (int j = 0; j < n; j++) {
      std::vector<char> column(item * m);
      for (int i = 0; i < m; i++) {
        double sum = 0;
        for (int l = 0; l < k; l++)
          sum += load(a, a_type, q * stride_a + (trans_a ? l + int64_t(i) * lda : i + int64_t(l) * lda)) *
                 load(b, b_type, q * stride_b + (trans_b ? j + int64_t(l) * ldb : l + int64_t(j) * ldb));
        store(column, c_type, i, scale * sum);
      }
      char* to = static_cast<char*>(c) + item * (q * stride_c + int64_t(j) * ldc);
      cudaMemcpyAsync(to, column.data(), column.size(), 1, handle->stream);
      cudaStreamSynchronize(handle->stream);
    }
  return 0;
}
}
