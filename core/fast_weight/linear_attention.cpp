#include "core/fast_weight/linear_attention.h"

#include <algorithm>

#include "core/base/autograd.h"
#include "core/base/error.h"
#include "core/kernels/decay_mask.h"
#include "core/kernels/matmul.h"
#include "core/kernels/state_scan.h"

namespace fwl {
namespace {

// Positions in a block of causal products: large enough for products that fill a GPU.
constexpr int64_t kCausalBlock = 512;
// What chunks are chosen from on a GPU.
constexpr int64_t kChunkMultiple = 128, kLongestChunk = 4096;

// How chunks of C positions let states through, with the document mask folded in, in float64. The leading
// size n is 1 when no document starts inside (the weights are the same for every sequence and chunk), else
// B*G.
struct DecayWeights {
  Tensor position_c1;   // i as a column
  Tensor inbound_nc1;   // rho^i before the first document start of the chunk
  Tensor outbound_nc1;  // rho^(C-1-j) in the last document of the chunk
  Tensor carry_bg11;    // rho^C, 0 where a document starts in the chunk; b and g may be 1
};

// The document of each position of each chunk, [n, C], from 0 in every chunk.
Tensor documents_of(const Tensor& start_bgc) {
  return start_bgc.defined() ? start_bgc.to(at::kLong).cumsum(2).flatten(0, 1) : Tensor();
}

DecayMask decay_mask(const Tensor& log_decay, const Tensor& start_bgc) {
  return {log_decay.detach().to(at::kDouble), documents_of(start_bgc)};
}

DecayWeights decay_weights(const Tensor& any_log_decay, const Tensor& start_bgc, int64_t chunk) {
  DecayWeights d;
  const Tensor log_decay = any_log_decay.to(at::kDouble);
  const Tensor i_c = at::arange(chunk, log_decay.options());
  d.position_c1 = i_c.unsqueeze(1);
  d.inbound_nc1 = (log_decay * i_c).exp().view({1, chunk, 1});
  d.outbound_nc1 = (log_decay * (chunk - 1 - i_c)).exp().view({1, chunk, 1});
  d.carry_bg11 = (log_decay * chunk).exp().view({1, 1, 1, 1});
  if (!start_bgc.defined()) return d;
  const Tensor document_nc = documents_of(start_bgc);
  const Tensor last_n1 = document_nc.narrow(1, chunk - 1, 1);
  d.inbound_nc1 = d.inbound_nc1 * (document_nc == 0).unsqueeze(2);
  d.outbound_nc1 = d.outbound_nc1 * (document_nc == last_n1).unsqueeze(2);
  d.carry_bg11 = d.carry_bg11 * (last_n1 == 0).view({start_bgc.size(0), start_bgc.size(1), 1, 1});
  return d;
}

// a [B*G, C, x], b [B*G, C, y] -> sum over the chunk of a b^T, [B, G, x, y] in the accumulation type.
Tensor chunk_outer(const Tensor& a_ncx, const Tensor& b_ncy, int64_t batch) {
  const Tensor product_nxy = batched_product_accumulate(a_ncx.transpose(1, 2), b_ncy);
  return product_nxy.view({batch, -1, product_nxy.size(1), product_nxy.size(2)});
}

// Products with strictly causal matrices [n, C, C]: what lies above the blocks of the diagonal is neither
// computed nor read, so that C positions cost little more than half of C^2.
class CausalProducts {
 public:
  explicit CausalProducts(int64_t chunk) : chunk_(chunk) {}

  // a b^T in the blocks of the diagonal and below. On a GPU the rest is left as it was: the mask does not
  // read it.
  Tensor outer(const Tensor& a_nck, const Tensor& b_nck) const {
    if (chunk_ <= kCausalBlock) return at::bmm(a_nck, b_nck.transpose(1, 2));
    const std::vector<int64_t> shape = {a_nck.size(0), chunk_, chunk_};
    const Tensor product_nij =
        a_nck.is_cuda() ? at::empty(shape, a_nck.options()) : at::zeros(shape, a_nck.options());
    for_each_block([&](int64_t first, int64_t count) {
      Tensor rows = product_nij.narrow(1, first, count).narrow(2, 0, first + count);
      at::bmm_out(rows, a_nck.narrow(1, first, count), b_nck.narrow(1, 0, first + count).transpose(1, 2));
    });
    return product_nij;
  }
  // m x.
  Tensor times(const Tensor& m_nij, const Tensor& x_ncd) const {
    if (chunk_ <= kCausalBlock) return at::bmm(m_nij, x_ncd);
    return by_blocks(x_ncd, [&](Tensor& out, int64_t first, int64_t count) {
      at::bmm_out(out, m_nij.narrow(1, first, count).narrow(2, 0, first + count),
                  x_ncd.narrow(1, 0, first + count));
    });
  }
  // m^T x.
  Tensor transposed_times(const Tensor& m_nij, const Tensor& x_ncd) const {
    if (chunk_ <= kCausalBlock) return at::bmm(m_nij.transpose(1, 2), x_ncd);
    return by_blocks(x_ncd, [&](Tensor& out, int64_t first, int64_t count) {
      const Tensor columns = m_nij.narrow(1, first, chunk_ - first).narrow(2, first, count);
      at::bmm_out(out, columns.transpose(1, 2), x_ncd.narrow(1, first, chunk_ - first));
    });
  }

 private:
  template <typename Visit>
  void for_each_block(Visit visit) const {
    for (int64_t first = 0; first < chunk_; first += kCausalBlock)
      visit(first, std::min(kCausalBlock, chunk_ - first));
  }
  template <typename Visit>
  Tensor by_blocks(const Tensor& like_ncd, Visit visit) const {
    const Tensor result = at::empty_like(like_ncd);
    for_each_block([&](int64_t first, int64_t count) {
      Tensor rows = result.narrow(1, first, count);
      visit(rows, first, count);
    });
    return result;
  }

  int64_t chunk_;
};

// A shard cut into whole chunks: zeros stand before its first position when the chunk does not divide it
// (they add nothing, and every exponent between real positions stays).
struct Chunking {
  int64_t chunk, padding;
  Chunking(int64_t length, int64_t wanted) : chunk(std::min(wanted, length)), padding(0) {
    require<InternalError>(chunk > 0, "linear attention got ", length, " positions in chunks of ", wanted);
    padding = (chunk - length % chunk) % chunk;
  }
  Tensor chunks_of(const Tensor& x_btd) const {
    const Tensor whole = padding == 0 ? x_btd.contiguous() : at::constant_pad_nd(x_btd, {0, 0, padding, 0});
    return whole.reshape({-1, chunk, x_btd.size(2)});
  }
  Tensor starts_of(const Tensor& start_bt) const {
    if (!start_bt.defined()) return {};
    const Tensor whole = padding == 0 ? start_bt : at::constant_pad_nd(start_bt, {padding, 0});
    return whole.reshape({start_bt.size(0), -1, chunk});
  }
  // Back to positions.
  Tensor positions_of(const Tensor& x_ncd, int64_t batch) const {
    const Tensor x_btd = x_ncd.reshape({batch, -1, x_ncd.size(2)});
    return padding == 0 ? x_btd : x_btd.narrow(1, padding, x_btd.size(1) - padding);
  }
};

// total = sum_i rho^(T-1-i) v_i k_i^T: computed by the scan; its gradient needs no chunks.
class ShardTotal : public torch::autograd::Function<ShardTotal> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& k_btk, const Tensor& v_btv,
                        const Tensor& log_decay, const Tensor& outbound_bt1, const Tensor& total_bvk) {
    ctx->save_for_backward({k_btk, v_btv, log_decay, outbound_bt1});
    return total_bvk;
  }

  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &k_btk = saved[0], &v_btv = saved[1], &outbound_bt1 = saved[3];
    const Tensor bar_bvk = bars[0].to(v_btv.scalar_type());
    const Tensor weight_bt1 = outbound_bt1.to(v_btv.scalar_type());
    const Tensor v_bar_btv = at::matmul(k_btk, bar_bvk.transpose(1, 2)).mul_(weight_bt1);
    const Tensor k_bar_btk = at::matmul(v_btv, bar_bvk).mul_(weight_bt1);
    Tensor log_decay_bar;
    if (ctx->needs_input_grad(2)) {
      const Tensor gap_t = at::arange(k_btk.size(1) - 1, -1, -1, outbound_bt1.options().dtype(at::kDouble));
      const Tensor product_bt =
          at::sum(v_btv * v_bar_btv, at::IntArrayRef{2}, false, outbound_bt1.scalar_type()).to(at::kDouble);
      log_decay_bar = at::dot(product_bt.sum(0), gap_t).to(saved[2].scalar_type());
    }
    return {k_bar_btk, v_bar_btv, log_decay_bar, Tensor(), Tensor()};
  }
};

// Saved for the backward: q, k, v and the state at each chunk's start. The starts come in as a constant: the
// backward goes through them to k, v and log_decay itself.
class LocalAttention : public torch::autograd::Function<LocalAttention> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& q_btk, const Tensor& k_btk, const Tensor& v_btv,
                        const Tensor& log_decay, const std::optional<Tensor>& start,
                        const std::optional<Tensor>& starts, int64_t chunk) {
    const Tensor start_bt = start.value_or(Tensor()), starts_nvk = starts.value_or(Tensor());
    const Chunking cut(q_btk.size(1), chunk);
    const auto type = v_btv.scalar_type();
    const Tensor start_bgc = cut.starts_of(start_bt);
    const Tensor q_nck = cut.chunks_of(q_btk), k_nck = cut.chunks_of(k_btk), v_ncv = cut.chunks_of(v_btv);
    const CausalProducts causal(cut.chunk);
    Tensor score_nij = causal.outer(q_nck, k_nck);
    apply_decay_mask_(score_nij, decay_mask(log_decay, start_bgc));
    Tensor out_ncv = causal.times(score_nij, v_ncv);
    if (starts_nvk.defined()) {
      const DecayWeights d = decay_weights(log_decay, start_bgc, cut.chunk);
      // The weights of the narrower tensor.
      out_ncv.addcmul_(at::bmm(q_nck, starts_nvk.transpose(1, 2)), d.inbound_nc1.to(type));
    }
    ctx->saved_data["chunk"] = chunk;
    ctx->save_for_backward({q_btk, k_btk, v_btv, log_decay, start_bt, starts_nvk});
    return cut.positions_of(out_ncv, q_btk.size(0));
  }

  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    const auto saved = ctx->get_saved_variables();
    const Chunking cut(saved[0].size(1), ctx->saved_data["chunk"].toInt());
    const int64_t batch = saved[0].size(0), chunk = cut.chunk;
    const auto type = saved[2].scalar_type();
    const Tensor &log_decay = saved[3], &starts_nvk = saved[5];
    const Tensor start_bgc = cut.starts_of(saved[4]);
    const Tensor q_nck = cut.chunks_of(saved[0]), k_nck = cut.chunks_of(saved[1]),
                 v_ncv = cut.chunks_of(saved[2]), out_bar_ncv = cut.chunks_of(bars[0]);

    // Within chunks: queries, then keys and values.
    const CausalProducts causal(chunk);
    Tensor out_v_nij = causal.outer(out_bar_ncv, v_ncv);
    Tensor score_nij = causal.outer(q_nck, k_nck);
    Tensor log_decay_bar = apply_decay_mask_to_both_(score_nij, out_v_nij, decay_mask(log_decay, start_bgc),
                                                     ctx->needs_input_grad(3));
    Tensor q_bar_nck = causal.times(out_v_nij, k_nck), k_bar_nck = causal.transposed_times(out_v_nij, q_nck),
           v_bar_ncv;
    if (ctx->needs_input_grad(2)) v_bar_ncv = causal.transposed_times(score_nij, out_bar_ncv);
    // Rows are summed in the accumulation type and added up in float64: large terms cancel.
    const auto row_sums = [&](const Tensor& x) {
      return at::sum(x, at::IntArrayRef{-1}, false, accumulate_type(type)).to(at::kDouble);
    };

    // Between chunks: queries from the forward states, keys and values from the cotangents of the states, in
    // reverse.
    if (starts_nvk.defined()) {
      const DecayWeights d = decay_weights(log_decay, start_bgc, chunk);
      const Tensor inbound_nc1 = d.inbound_nc1.to(type), outbound_nc1 = d.outbound_nc1.to(type);
      const Tensor inbound_bar_ncv = out_bar_ncv * inbound_nc1;
      const Tensor from_state_nck = at::bmm(inbound_bar_ncv, starts_nvk);
      q_bar_nck.add_(from_state_nck);
      const Tensor state_bar_nvk =
          scan_states(chunk_outer(inbound_bar_ncv, q_nck, batch), d.carry_bg11.to(accumulate_type(type)),
                      type, ScanOrder::kBackward)
              .before_bgvk.flatten(0, 1);
      k_bar_nck.baddbmm_(v_ncv * outbound_nc1, state_bar_nvk);
      const Tensor to_state_ncv = at::bmm(k_nck, state_bar_nvk.transpose(1, 2)).mul_(outbound_nc1);
      if (v_bar_ncv.defined()) v_bar_ncv.add_(to_state_ncv);
      if (log_decay_bar.defined()) {
        const Tensor chunk_dot_n = row_sums((state_bar_nvk * starts_nvk).flatten(1));
        log_decay_bar += (row_sums(q_nck * from_state_nck) * d.position_c1.squeeze(1)).sum() +
                         (row_sums(v_ncv * to_state_ncv) * (chunk - 1 - d.position_c1).squeeze(1)).sum() +
                         (chunk_dot_n.view({batch, -1}) * d.carry_bg11.flatten(1)).sum() * chunk;
      }
    }
    if (log_decay_bar.defined()) log_decay_bar = log_decay_bar.to(log_decay.scalar_type());
    const Tensor v_bar_btv = v_bar_ncv.defined() ? cut.positions_of(v_bar_ncv, batch) : Tensor();
    return {cut.positions_of(q_bar_nck, batch),
            cut.positions_of(k_bar_nck, batch),
            v_bar_btv,
            log_decay_bar,
            Tensor(),
            Tensor(),
            Tensor()};
  }
};

// weight_t S q_t for a state that all positions share.
class InboundAttention : public torch::autograd::Function<InboundAttention> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& q_btk, const Tensor& inbound_bvk,
                        const Tensor& weight_bt1) {
    ctx->save_for_backward({q_btk, inbound_bvk, weight_bt1});
    const auto type = q_btk.scalar_type();
    return at::matmul(q_btk, inbound_bvk.to(type).transpose(1, 2)).mul_(weight_bt1.to(type));
  }

  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &q_btk = saved[0], &weight_bt1 = saved[2];
    const auto type = q_btk.scalar_type();
    const Tensor narrow_bt1 = weight_bt1.to(type);
    Tensor q_bar_btk = at::matmul(bars[0], saved[1].to(type));
    Tensor weight_bar, inbound_bar_bvk;
    if (ctx->needs_input_grad(2)) {
      weight_bar = at::sum(q_btk * q_bar_btk, at::IntArrayRef{2}, true, weight_bt1.scalar_type());
      if (weight_bt1.size(0) == 1) weight_bar = weight_bar.sum(0, true);
    }
    if (ctx->needs_input_grad(1))
      inbound_bar_bvk = batched_product_accumulate((bars[0] * narrow_bt1).transpose(1, 2), q_btk);
    return {q_bar_btk.mul_(narrow_bt1), inbound_bar_bvk, weight_bar};
  }
};

}  // namespace

ShardDecay shard_decay(const Tensor& log_decay, const Tensor& document_start_bt, int64_t length,
                       at::ScalarType type) {
  // In float64: the gradient of log_decay sums over all positions.
  const Tensor wide = log_decay.to(at::kDouble);
  const Tensor t_t = at::arange(length, wide.options().requires_grad(false));
  const auto power = [&](const Tensor& exponent) { return (wide * exponent).exp().to(type); };
  ShardDecay d;
  d.inbound_bt1 = power(t_t).view({1, length, 1});
  d.outbound_bt1 = power(length - 1 - t_t).detach().view({1, length, 1});
  d.carry_b11 = (wide * length).exp().to(type).view({1, 1, 1});
  if (!document_start_bt.defined()) return d;
  const Tensor document_bt = document_start_bt.to(at::kLong).cumsum(1);
  const Tensor last_b1 = document_bt.narrow(1, length - 1, 1);
  d.inbound_bt1 = d.inbound_bt1 * (document_bt == 0).unsqueeze(2);
  d.outbound_bt1 = d.outbound_bt1 * (document_bt == last_b1).unsqueeze(2);
  d.carry_b11 = d.carry_b11 * (last_b1 == 0).unsqueeze(2);
  return d;
}

LocalStates local_states(const Tensor& k_btk, const Tensor& v_btv, const Tensor& log_decay,
                         const Tensor& document_start_bt, const std::optional<ShardDecay>& decay,
                         int64_t chunk) {
  require<InternalError>(chunk > 0 && v_btv.size(1) == k_btk.size(1) && log_decay.dim() == 0,
                         "local_states got k ", k_btk.sizes(), ", v ", v_btv.sizes(), ", chunk ", chunk);
  LocalStates states;
  const bool one_chunk = k_btk.size(1) <= chunk;
  if (one_chunk && !decay) return states;
  Tensor total_bvk;
  {
    const at::NoGradGuard no_grad;
    const Chunking cut(k_btk.size(1), chunk);
    const auto type = v_btv.scalar_type();
    const DecayWeights d = decay_weights(log_decay, cut.starts_of(document_start_bt), cut.chunk);
    const Tensor added_bgvk =
        chunk_outer(cut.chunks_of(v_btv) * d.outbound_nc1.to(type), cut.chunks_of(k_btk), k_btk.size(0));
    if (one_chunk) {
      total_bvk = added_bgvk.squeeze(1);
    } else {
      const StateScan scan =
          scan_states(added_bgvk, d.carry_bg11.to(added_bgvk.scalar_type()), type, ScanOrder::kForward);
      states.starts_nvk = scan.before_bgvk.flatten(0, 1);
      total_bvk = scan.end_bvk;
    }
  }
  if (decay) states.total_bvk = ShardTotal::apply(k_btk, v_btv, log_decay, decay->outbound_bt1, total_bvk);
  return states;
}

double computed_keys(int64_t chunk) {
  double keys = 0;
  for (int64_t first = 0; first < chunk; first += kCausalBlock) {
    const int64_t count = std::min(kCausalBlock, chunk - first);
    keys += static_cast<double>(count * (first + count)) / static_cast<double>(chunk);
  }
  return keys;
}

int64_t fastest_chunk(int64_t length, int64_t key_dim, int64_t value_dim, at::Device device) {
  if (!device.is_cuda()) return std::min<int64_t>(length, 64);
  // FLOPs a token and layer: products within chunks, writing and reading the states, and the traffic of the
  // states, and of the copies of queries, keys and values where the last chunk is not whole, at the FLOPs
  // that the GPU could have done meanwhile.
  constexpr double kFlopsPerByte = 150, kBytesPerStateElement = 16, kBytesPerCopiedElement = 4;
  const auto cost = [&](int64_t chunk) {
    const double within = 2.0 * computed_keys(chunk) * static_cast<double>(key_dim + value_dim);
    if (chunk >= length) return within;
    const auto state = static_cast<double>(key_dim * value_dim);
    const auto copied = static_cast<double>(length % chunk == 0 ? 0 : 2 * key_dim + value_dim);
    return within + state * (4 + kBytesPerStateElement * kFlopsPerByte / static_cast<double>(chunk)) +
           copied * kBytesPerCopiedElement * kFlopsPerByte;
  };
  int64_t best = length;
  for (int64_t chunk = kChunkMultiple; chunk <= kLongestChunk && chunk < length; chunk += kChunkMultiple) {
    if (cost(chunk) < cost(best)) best = chunk;
  }
  return best;
}

int64_t length_of_whole_chunks(int64_t length) {
  // Chunks of 640 to 2,048 positions cost nearly the same; shorter sequences are one chunk, or cut anywhere.
  constexpr int64_t kFewest = 5, kMost = 16;
  int64_t parts = (length + kChunkMultiple - 1) / kChunkMultiple;
  const auto is_whole = [&] {
    for (int64_t chunk = kFewest; chunk <= kMost; ++chunk)
      if (parts % chunk == 0) return true;
    return false;
  };
  while (parts * kChunkMultiple > kLongestChunk && !is_whole()) ++parts;
  return parts * kChunkMultiple;
}

Tensor attend_local(const Tensor& q_btk, const Tensor& k_btk, const Tensor& v_btv, const Tensor& log_decay,
                    const Tensor& document_start_bt, const LocalStates& states, int64_t chunk) {
  require<InternalError>(q_btk.sizes() == k_btk.sizes() && v_btv.size(1) == q_btk.size(1),
                         "attend_local got q ", q_btk.sizes(), ", k ", k_btk.sizes(), ", v ", v_btv.sizes());
  return LocalAttention::apply(q_btk, k_btk, v_btv, log_decay, optional_of(document_start_bt),
                               optional_of(states.starts_nvk), chunk);
}

Tensor attend_inbound(const Tensor& q_btk, const Tensor& inbound_bvk, const ShardDecay& decay) {
  return InboundAttention::apply(q_btk, inbound_bvk, decay.inbound_bt1);
}

}  // namespace fwl
