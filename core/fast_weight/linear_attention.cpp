#include "core/fast_weight/linear_attention.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/kernels/matmul.h"

namespace fwl {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Tensors that may be undefined go through autograd::Function as optionals.
std::optional<Tensor> optional_of(const Tensor& t) {
  return t.defined() ? std::optional<Tensor>(t) : std::nullopt;
}

// Decay weights of chunks of C positions with the document mask folded in. The leading size n is 1 when no
// document starts inside (the weights are the same for every sequence and chunk), else B*G.
struct DecayWeights {
  Tensor gap_ij;        // i - 1 - j below the diagonal, else 0: the exponents of `within`
  Tensor position_c1;   // i as a column
  Tensor within_nij;    // D_ij = rho^(i-1-j) for j < i in one document
  Tensor inbound_nc1;   // rho^i before the first document start of the chunk
  Tensor outbound_nc1;  // rho^(C-1-j) in the last document of the chunk
  Tensor carry_bg11;    // rho^C, 0 where a document starts in the chunk; b and g may be 1
};

DecayWeights decay_weights(const Tensor& log_decay, const Tensor& start_bgc, int64_t chunk) {
  DecayWeights d;
  const Tensor i_c = at::arange(chunk, log_decay.options());
  const Tensor gap_ij = i_c.unsqueeze(1) - 1 - i_c.unsqueeze(0);
  const Tensor causal_ij = gap_ij >= 0;
  d.gap_ij = gap_ij.clamp_min(0);
  d.position_c1 = i_c.unsqueeze(1);
  d.within_nij = ((log_decay * d.gap_ij).exp() * causal_ij).unsqueeze(0);
  d.inbound_nc1 = (log_decay * i_c).exp().view({1, chunk, 1});
  d.outbound_nc1 = (log_decay * (chunk - 1 - i_c)).exp().view({1, chunk, 1});
  d.carry_bg11 = (log_decay * chunk).exp().view({1, 1, 1, 1});
  if (!start_bgc.defined()) return d;
  const Tensor document_bgc = start_bgc.to(at::kLong).cumsum(2);
  const Tensor document_nc = document_bgc.reshape({-1, chunk});
  const Tensor last_n1 = document_nc.narrow(1, chunk - 1, 1);
  d.within_nij = d.within_nij * (document_nc.unsqueeze(2) == document_nc.unsqueeze(1));
  d.inbound_nc1 = d.inbound_nc1 * (document_nc == 0).unsqueeze(2);
  d.outbound_nc1 = d.outbound_nc1 * (document_nc == last_n1).unsqueeze(2);
  d.carry_bg11 = d.carry_bg11 * (last_n1 == 0).view({start_bgc.size(0), start_bgc.size(1), 1, 1});
  return d;
}

// x_btd -> [B*G, C, d] without a copy where the layout allows.
Tensor to_chunks(const Tensor& x_btd, int64_t chunk) {
  return x_btd.reshape({-1, chunk, x_btd.size(2)});
}

// The states at the start of every chunk [B, G, v, k], from what each chunk adds; *end is the state after the
// last. `added_bgvk` is consumed.
Tensor scan_forward(Tensor added_bgvk, const Tensor& carry_bg11, const Tensor& inbound_bvk, Tensor* end) {
  const int64_t chunks = added_bgvk.size(1);
  Tensor state_bvk = inbound_bvk.defined() ? inbound_bvk : at::zeros_like(added_bgvk.select(1, 0));
  for (int64_t g = 0; g < chunks; ++g) {
    const Tensor carry_b11 = carry_bg11.select(1, std::min(g, carry_bg11.size(1) - 1));
    Tensor slot_bvk = added_bgvk.select(1, g);
    Tensor next_bvk = at::addcmul(slot_bvk, carry_b11, state_bvk);
    slot_bvk.copy_(state_bvk);
    state_bvk = next_bvk;
  }
  *end = state_bvk;
  return added_bgvk;
}

// Cotangents of the states at the END of every chunk, from what each chunk's outputs give (`added`, consumed)
// and the cotangent of the final state; *begin is the cotangent of the inbound state.
Tensor scan_backward(Tensor added_bgvk, const Tensor& carry_bg11, const Tensor& end_bar_bvk, Tensor* begin) {
  Tensor bar_bvk = end_bar_bvk.defined() ? end_bar_bvk : at::zeros_like(added_bgvk.select(1, 0));
  for (int64_t g = added_bgvk.size(1) - 1; g >= 0; --g) {
    const Tensor carry_b11 = carry_bg11.select(1, std::min(g, carry_bg11.size(1) - 1));
    Tensor slot_bvk = added_bgvk.select(1, g);
    Tensor previous_bvk = at::addcmul(slot_bvk, carry_b11, bar_bvk);
    slot_bvk.copy_(bar_bvk);
    bar_bvk = previous_bvk;
  }
  *begin = bar_bvk;
  return added_bgvk;
}

// a [B*G, C, x], b [B*G, C, y] -> sum over the chunk of a b^T, [B, G, x, y] in the accumulation type.
Tensor chunk_outer(const Tensor& a_ncx, const Tensor& b_ncy, int64_t batch) {
  const Tensor product_nxy = batched_product_accumulate(a_ncx.transpose(1, 2), b_ncy);
  return product_nxy.view({batch, -1, product_nxy.size(1), product_nxy.size(2)});
}

// A sequence whose length the chunk divides. Saved for the backward: q, k, v and the state at each chunk's
// start.
class UniformChunks : public torch::autograd::Function<UniformChunks> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& q_btk, const Tensor& k_btk,
                               const Tensor& v_btv, const Tensor& log_decay,
                               const std::optional<Tensor>& start, const std::optional<Tensor>& inbound,
                               int64_t chunk) {
    const Tensor start_bgc = start.value_or(Tensor()), inbound_bvk = inbound.value_or(Tensor());
    const int64_t batch = q_btk.size(0);
    const auto type = v_btv.scalar_type();
    const DecayWeights d = decay_weights(log_decay, start_bgc, chunk);
    const Tensor q_nck = to_chunks(q_btk, chunk);
    const Tensor k_nck = to_chunks(k_btk, chunk);
    const Tensor v_ncv = to_chunks(v_btv, chunk);
    Tensor end_bvk;
    const Tensor added_bgvk = chunk_outer(v_ncv * d.outbound_nc1.to(type), k_nck, batch);
    const Tensor starts_bgvk = scan_forward(added_bgvk, d.carry_bg11, inbound_bvk, &end_bvk).to(type);
    const Tensor starts_nvk = starts_bgvk.flatten(0, 1);
    const Tensor score_nij = at::bmm(q_nck, k_nck.transpose(1, 2)).mul_(d.within_nij.to(type));
    Tensor out_ncv = at::bmm(score_nij, v_ncv);
    out_ncv.baddbmm_(q_nck * d.inbound_nc1.to(type), starts_nvk.transpose(1, 2));
    ctx->saved_data["chunk"] = chunk;
    ctx->saved_data["has_inbound"] = inbound_bvk.defined();
    ctx->save_for_backward({q_btk, k_btk, v_btv, log_decay, start_bgc, starts_nvk});
    return {out_ncv.view(v_btv.sizes()), end_bvk};
  }

  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    const auto saved = ctx->get_saved_variables();
    const int64_t chunk = ctx->saved_data["chunk"].toInt();
    const int64_t batch = saved[0].size(0);
    const auto type = saved[2].scalar_type();
    const Tensor &log_decay = saved[3], &starts_nvk = saved[5];
    const DecayWeights d = decay_weights(log_decay, saved[4], chunk);
    const Tensor within_nij = d.within_nij.to(type), inbound_nc1 = d.inbound_nc1.to(type),
                 outbound_nc1 = d.outbound_nc1.to(type);
    const Tensor q_nck = to_chunks(saved[0], chunk), k_nck = to_chunks(saved[1], chunk),
                 v_ncv = to_chunks(saved[2], chunk);
    const Tensor out_bar_ncv = bars[0].defined() ? to_chunks(bars[0], chunk) : at::zeros_like(v_ncv);

    // Sweep 1: queries, from the forward states.
    const Tensor out_v_nij = at::bmm(out_bar_ncv, v_ncv.transpose(1, 2)).mul_(within_nij);
    const Tensor from_state_nck = at::bmm(out_bar_ncv, starts_nvk);
    Tensor q_bar_nck = at::bmm(out_v_nij, k_nck).add_(from_state_nck * inbound_nc1);

    // Sweep 2: keys and values, from the cotangents of the states, in reverse.
    Tensor inbound_bar_bvk;
    const Tensor state_bar_bgvk = scan_backward(chunk_outer(out_bar_ncv * inbound_nc1, q_nck, batch),
                                                d.carry_bg11, bars[1], &inbound_bar_bvk);
    const Tensor state_bar_nvk = state_bar_bgvk.to(type).flatten(0, 1);
    const Tensor raw_score_nij = at::bmm(q_nck, k_nck.transpose(1, 2));
    Tensor k_bar_nck = at::bmm(out_v_nij.transpose(1, 2), q_nck);
    k_bar_nck.baddbmm_(v_ncv * outbound_nc1, state_bar_nvk);
    const Tensor to_state_ncv = at::bmm(k_nck, state_bar_nvk.transpose(1, 2)).mul_(outbound_nc1);
    Tensor v_bar_btv;
    if (ctx->needs_input_grad(2)) {
      v_bar_btv = at::bmm((raw_score_nij * within_nij).transpose(1, 2), out_bar_ncv)
                      .add_(to_state_ncv)
                      .view(saved[2].sizes());
    }
    Tensor log_decay_bar;
    if (ctx->needs_input_grad(3)) {
      const auto accumulate = log_decay.scalar_type();
      const auto sum = [&](const Tensor& x) { return at::sum(x, accumulate); };
      const Tensor starts_bgvk = starts_nvk.view_as(state_bar_bgvk);
      log_decay_bar = sum(raw_score_nij.mul(out_v_nij).mul(d.gap_ij.to(type))) +
                      sum(q_nck * from_state_nck * (inbound_nc1 * d.position_c1.to(type))) +
                      sum(v_ncv * to_state_ncv * (chunk - 1 - d.position_c1).to(type)) +
                      sum(state_bar_bgvk * starts_bgvk * d.carry_bg11) * chunk;
    }
    if (!ctx->saved_data["has_inbound"].toBool()) inbound_bar_bvk = Tensor();
    return {q_bar_nck.view(saved[0].sizes()),
            k_bar_nck.view(saved[1].sizes()),
            v_bar_btv,
            log_decay_bar,
            Tensor(),
            inbound_bar_bvk,
            Tensor()};
  }
};

LinearAttentionResult uniform(const Tensor& q_btk, const Tensor& k_btk, const Tensor& v_btv,
                              const Tensor& log_decay, const Tensor& start_bt, const Tensor& inbound_bvk,
                              int64_t chunk) {
  const Tensor start_bgc = start_bt.defined() ? start_bt.reshape({start_bt.size(0), -1, chunk}) : Tensor();
  const variable_list result =
      UniformChunks::apply(q_btk.contiguous(), k_btk.contiguous(), v_btv.contiguous(), log_decay,
                           optional_of(start_bgc), optional_of(inbound_bvk), chunk);
  return {result[0], result[1]};
}

}  // namespace

LinearAttentionResult linear_attention(const Tensor& q_btk, const Tensor& k_btk, const Tensor& v_btv,
                                       const Tensor& log_decay, const Tensor& document_start_bt,
                                       const Tensor& inbound_bvk, int64_t chunk) {
  require<InternalError>(
      chunk > 0 && q_btk.sizes() == k_btk.sizes() && v_btv.size(1) == q_btk.size(1) && log_decay.dim() == 0,
      "linear_attention got q ", q_btk.sizes(), ", k ", k_btk.sizes(), ", v ", v_btv.sizes(), ", chunk ",
      chunk);
  const int64_t length = q_btk.size(1);
  chunk = std::min(chunk, length);
  const int64_t whole = length - length % chunk;
  if (whole == length) return uniform(q_btk, k_btk, v_btv, log_decay, document_start_bt, inbound_bvk, chunk);
  // The rest that the chunk does not divide is one shorter chunk, continued from the state of the first part.
  const auto part = [&](const Tensor& x, int64_t first, int64_t count) {
    return x.defined() ? x.narrow(1, first, count) : x;
  };
  const int64_t rest = length - whole;
  const auto head = uniform(part(q_btk, 0, whole), part(k_btk, 0, whole), part(v_btv, 0, whole), log_decay,
                            part(document_start_bt, 0, whole), inbound_bvk, chunk);
  const auto tail = uniform(part(q_btk, whole, rest), part(k_btk, whole, rest), part(v_btv, whole, rest),
                            log_decay, part(document_start_bt, whole, rest), head.state_bvk, rest);
  return {at::cat({head.out_btv, tail.out_btv}, 1), tail.state_bvk};
}

}  // namespace fwl
