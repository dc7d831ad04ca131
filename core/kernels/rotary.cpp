#include "core/kernels/rotary.h"

#include <mutex>
#include <optional>

#include "core/kernels/rotary_cuda.h"

namespace fwl {
namespace {

RotaryTable backwards(const RotaryTable& table) {
  return {table.cosine_te, table.sine_te.neg()};
}

// [B, T, 3, H, E], where the three gradients already lie side by side as its parts and nobody but the caller
// holds them, so that they may be written to; else undefined.
Tensor side_by_side(const Tensor& q_bar_bhte, const Tensor& k_bar_bhte, const Tensor& v_bar_bhte,
                    at::IntArrayRef qkv_sizes) {
  const auto strides = c10::contiguous_strides(qkv_sizes);
  const int64_t part[4] = {strides[0], strides[3], strides[1], strides[4]};  // of [B, H, T, E]
  int64_t i = 0;
  for (const Tensor* bar : {&q_bar_bhte, &k_bar_bhte, &v_bar_bhte}) {
    // Compared before anything is made of them: several gradients may share an element that is expanded.
    if (!bar->defined() || bar->use_count() > 1 || !bar->is_alias_of(q_bar_bhte) ||
        bar->strides() != at::IntArrayRef(part) ||
        bar->storage_offset() != q_bar_bhte.storage_offset() + i * strides[2])
      return {};
    ++i;
  }
  return q_bar_bhte.as_strided(qkv_sizes, strides, q_bar_bhte.storage_offset());
}

RotaryTable new_table(int64_t first_position, int64_t length, int64_t head_dim, double base,
                      const at::TensorOptions& options) {
  // float64 angles: float32 ones lose a thousandth of a turn at position 65,536.
  const auto wide = options.dtype(at::kDouble);
  const Tensor exponent_e = at::arange(head_dim / 2, wide) * (-2.0 / static_cast<double>(head_dim));
  const Tensor frequency_e = at::pow(at::scalar_tensor(base, wide), exponent_e);
  const Tensor angle_te = at::outer(at::arange(first_position, first_position + length, wide), frequency_e);
  return {angle_te.cos().to(options.dtype()), angle_te.sin().to(options.dtype())};
}

struct TableKey {
  int64_t first_position, length, head_dim;
  double base;
  at::Device device;
  at::ScalarType type;
  bool operator==(const TableKey&) const = default;
};
struct KeptTable {
  std::mutex mutex;
  std::optional<TableKey> key;
  RotaryTable table;
};
KeptTable& kept_table() {
  static auto* const kept = new KeptTable;  // outlives the device's context
  return *kept;
}

}  // namespace

RotaryTable rotary_table(int64_t first_position, int64_t length, int64_t head_dim, double base,
                         at::TensorOptions options) {
  constexpr int64_t kMostKept = int64_t{1} << 24;  // elements
  const TableKey key{first_position, length,           head_dim,
                     base,           options.device(), c10::typeMetaToScalarType(options.dtype())};
  KeptTable& kept = kept_table();
  const std::lock_guard<std::mutex> lock(kept.mutex);
  if (kept.key == key) return kept.table;
  const RotaryTable table = new_table(first_position, length, head_dim, base, options);
  if (length * head_dim > kMostKept) return table;
  kept.key = key;
  kept.table = table;
  return table;
}

Tensor rotate(const Tensor& x_bhte, const RotaryTable& table) {
  const auto halves = x_bhte.chunk(2, -1);
  return at::cat({halves[0] * table.cosine_te - halves[1] * table.sine_te,
                  halves[0] * table.sine_te + halves[1] * table.cosine_te},
                 -1)
      .to(x_bhte.scalar_type());
}

void rotate_queries_keys_(Tensor& qkv_bt3he, const RotaryTable& table, Turn turn) {
  if (qkv_bt3he.is_cuda()) return cuda::rotate_queries_keys_(qkv_bt3he, table, turn);
  for (int64_t part = 0; part < 2; ++part) {
    Tensor x_bhte = qkv_bt3he.select(2, part).transpose(1, 2);
    x_bhte.copy_(rotate(x_bhte, turn == Turn::kBack ? backwards(table) : table));
  }
}

Tensor gather_qkv_gradient(const Tensor& q_bar_bhte, const Tensor& k_bar_bhte, const Tensor& v_bar_bhte,
                           const RotaryTable& table, at::IntArrayRef qkv_sizes,
                           const at::TensorOptions& options) {
  if (Tensor whole = side_by_side(q_bar_bhte, k_bar_bhte, v_bar_bhte, qkv_sizes); whole.defined()) {
    if (table.cosine_te.defined()) rotate_queries_keys_(whole, table, Turn::kBack);
    return whole;
  }
  if (options.device().is_cuda())
    return cuda::gather_qkv_gradient(q_bar_bhte, k_bar_bhte, v_bar_bhte, table, qkv_sizes, options);
  Tensor qkv_bar = at::empty(qkv_sizes, options);
  const Tensor bars[3] = {q_bar_bhte, k_bar_bhte, v_bar_bhte};
  for (int64_t part = 0; part < 3; ++part) {
    Tensor slot_bhte = qkv_bar.select(2, part).transpose(1, 2);
    if (!bars[part].defined()) {
      slot_bhte.zero_();
    } else {
      slot_bhte.copy_(part < 2 && table.cosine_te.defined() ? rotate(bars[part], backwards(table))
                                                            : bars[part]);
    }
  }
  return qkv_bar;
}

}  // namespace fwl
