#include "parallel/sharded_attention.h"

#include <algorithm>

#include "core/base/autograd.h"
#include "core/base/error.h"
#include "parallel/halo.h"

namespace fwl {
namespace {

Communicator& group_of(AutogradContext* ctx) {
  return *reinterpret_cast<Communicator*>(ctx->saved_data["group"].toInt());
}
void keep_group(AutogradContext* ctx, Communicator& group) {
  ctx->saved_data["group"] = static_cast<int64_t>(reinterpret_cast<intptr_t>(&group));
}

// [B, H, L, E] -> [B, H/R, R L, E]: this rank's heads, all tokens.
Tensor scatter_heads(Communicator& group, const Tensor& x_bhle) {
  const int64_t ranks = group.size(), b = x_bhle.size(0), h = x_bhle.size(1), l = x_bhle.size(2),
                e = x_bhle.size(3);
  const Tensor in = x_bhle.reshape({b, ranks, h / ranks, l, e}).transpose(0, 1).contiguous();
  const Tensor out = at::empty_like(in);
  group.all_to_all(out, in, purpose::kAttention);
  // Part r holds rank r's tokens: [R, B, H/R, L, E].
  return out.permute({1, 2, 0, 3, 4}).reshape({b, h / ranks, ranks * l, e});
}

// The way back.
Tensor gather_heads(Communicator& group, const Tensor& x_bhte) {
  const int64_t ranks = group.size(), b = x_bhte.size(0), h = x_bhte.size(1), e = x_bhte.size(3),
                l = x_bhte.size(2) / ranks;
  const Tensor in = x_bhte.reshape({b, h, ranks, l, e}).permute({2, 0, 1, 3, 4}).contiguous();
  const Tensor out = at::empty_like(in);
  group.all_to_all(out, in, purpose::kAttention);
  return out.transpose(0, 1).reshape({b, ranks * h, l, e});
}

class ScatterHeads : public torch::autograd::Function<ScatterHeads> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_bhle, Communicator* group) {
    keep_group(ctx, *group);
    return scatter_heads(*group, x_bhle);
  }
  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    return {gather_heads(group_of(ctx), bars[0]), Tensor()};
  }
};

class GatherHeads : public torch::autograd::Function<GatherHeads> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_bhte, Communicator* group) {
    keep_group(ctx, *group);
    return gather_heads(*group, x_bhte);
  }
  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    return {scatter_heads(group_of(ctx), bars[0]), Tensor()};
  }
};

// [B, H, L, E] -> [B, H, R L, E]; the gradient of a position is summed over all ranks that looked at it.
class GatherTokens : public torch::autograd::Function<GatherTokens> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_bhle, Communicator* group) {
    keep_group(ctx, *group);
    const int64_t ranks = group->size(), l = x_bhle.size(2);
    const Tensor in = x_bhle.contiguous();
    std::vector<int64_t> shape = in.sizes().vec();
    shape.insert(shape.begin(), ranks);
    const Tensor out = at::empty(shape, in.options());
    group->all_gather(out, in, purpose::kAttention);
    return out.permute({1, 2, 0, 3, 4}).reshape({in.size(0), in.size(1), ranks * l, in.size(3)});
  }
  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    Communicator& group = group_of(ctx);
    const int64_t ranks = group.size(), b = bars[0].size(0), h = bars[0].size(1), e = bars[0].size(3);
    const Tensor in = bars[0].reshape({b, h, ranks, -1, e}).permute({2, 0, 1, 3, 4}).contiguous();
    const Tensor out = at::empty(in.sizes().slice(1), in.options());
    group.reduce_scatter_sum(out, in, purpose::kAttention);
    return {out, Tensor()};
  }
};

}  // namespace

AttentionAlgorithm choose_attention_algorithm(const std::string& name, int ranks, int64_t heads,
                                              int64_t window) {
  const bool divides = heads % ranks == 0;
  if (name == "all_gather") return AttentionAlgorithm::kAllGather;
  if (name == "all_to_all") {
    require<ConfigError>(divides, "parallel.attention=all_to_all needs model.heads = ", heads,
                         " to be divisible by ", ranks,
                         " sequence ranks (each takes whole heads). Use all_gather, or other sizes.");
    return AttentionAlgorithm::kAllToAll;
  }
  if (name == "halo") {
    require<ConfigError>(window > 0,
                         "parallel.attention=halo needs model.window > 0 (full attention reaches "
                         "beyond any neighbour). Use all_to_all or all_gather.");
    return AttentionAlgorithm::kHalo;
  }
  require<ConfigError>(name == "auto", "parallel.attention = '", name,
                       "' does not exist. Choose among auto, all_to_all, all_gather, halo.");
  if (window > 0) return AttentionAlgorithm::kHalo;
  return divides ? AttentionAlgorithm::kAllToAll : AttentionAlgorithm::kAllGather;
}

const char* name_of(AttentionAlgorithm algorithm) {
  switch (algorithm) {
    case AttentionAlgorithm::kAllToAll:
      return "all_to_all";
    case AttentionAlgorithm::kAllGather:
      return "all_gather";
    case AttentionAlgorithm::kHalo:
      return "halo";
  }
  throw InternalError("unknown attention algorithm");
}

const char* reason_of(AttentionAlgorithm algorithm) {
  switch (algorithm) {
    case AttentionAlgorithm::kAllToAll:
      return "full attention, and the sequence ranks divide the heads: fewest bytes, balanced work";
    case AttentionAlgorithm::kAllGather:
      return "full attention, and the sequence ranks do not divide the heads";
    case AttentionAlgorithm::kHalo:
      return "a sliding window: the left neighbours are enough";
  }
  throw InternalError("unknown attention algorithm");
}

Tensor all_to_all_attention(Communicator& group, const Tensor& q_bhle, const Tensor& k_bhle,
                            const Tensor& v_bhle, int64_t window) {
  // One message for all three.
  const auto qkv = ScatterHeads::apply(at::cat({q_bhle, k_bhle, v_bhle}, 0), &group).chunk(3, 0);
  return GatherHeads::apply(causal_attention(qkv[0], qkv[1], qkv[2], window), &group);
}

Tensor all_gather_attention(Communicator& group, const Tensor& q_bhle, const Tensor& k_bhle,
                            const Tensor& v_bhle, int64_t window) {
  const Tensor all = GatherTokens::apply(at::cat({k_bhle, v_bhle}, 0), &group);
  // What lies behind this rank's positions is not looked at.
  const auto kv = all.narrow(2, 0, (group.rank() + 1) * q_bhle.size(2)).chunk(2, 0);
  return causal_attention(q_bhle, kv[0], kv[1], window);
}

Tensor halo_attention(Communicator& group, const Tensor& q_bhle, const Tensor& k_bhle, const Tensor& v_bhle,
                      int64_t window, AttentionMemory* memory) {
  const int64_t length = q_bhle.size(2), reach = window - 1;
  // All that ever leaves this rank is in its last rows.
  const int64_t tail = std::min(reach, length);
  const auto last = [&](const Tensor& x) { return x.narrow(2, length - tail, tail); };
  Tensor before_kv;
  if (memory != nullptr && memory->key_bhte.defined())
    before_kv = at::cat({memory->key_bhte, memory->value_bhte}, 0);
  Halo halo(group, at::cat({last(k_bhle), last(v_bhle)}, 0), length, reach, before_kv,
            memory == nullptr ? StreamMemory::kNone : StreamMemory::kKept);
  const auto before = halo.finish().chunk(2, 0);
  if (memory != nullptr) {
    const Tensor next = halo.next_memory();
    const auto parts = next.chunk(2, 0);
    *memory = next.size(2) > 0 ? AttentionMemory{parts[0], parts[1]} : AttentionMemory{};
  }
  return causal_attention(q_bhle, at::cat({before[0], k_bhle}, 2), at::cat({before[1], v_bhle}, 2), window);
}

int64_t attention_bytes(AttentionAlgorithm algorithm, int rank, int ranks, const AttentionShape& s,
                        int64_t window, StreamMemory memory) {
  const int64_t one = s.batch * s.heads * s.length * s.head_dim * s.element_bytes;  // q, k, v or y
  if (algorithm == AttentionAlgorithm::kAllToAll) return 4 * one / ranks * (ranks - 1);
  if (algorithm == AttentionAlgorithm::kAllGather) return 2 * one * (ranks - 1);
  return halo_rows_sent(rank, ranks, s.length, window - 1, memory) * 2 * one / s.length;
}

int64_t halo_backward_bytes(int rank, const AttentionShape& s, int64_t window) {
  const int64_t row = 2 * s.batch * s.heads * s.head_dim * s.element_bytes;
  return halo_rows_received(rank, s.length, window - 1) * row;
}

}  // namespace fwl
