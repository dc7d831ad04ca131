// The fast tensors of the block: for each fast weight matrix the linear attention that is its decayed sum of
// gradients, S_t applied to queries. Cut into heads of hidden units where each has a decay of its own. Keys
// and values come from the pass before, queries from the pass at fast weights; states before the shard may
// come from other ranks, one exchange for all.
//
// Order of calls: start_exchange, first_local (meanwhile), finish_exchange, then the sums and the state.
// Shape suffixes: b batch, t position, k key dim, v value dim, d width, f hidden.
#pragma once

#include <optional>
#include <vector>

#include "core/fast_weight/linear_attention.h"
#include "core/fast_weight/state.h"
#include "core/fast_weight/state_exchange.h"
#include "core/fast_weight/weights.h"

namespace fwl {

// Inputs of the dense layers as keys, and gradients with respect to their outputs as values. Parts of what is
// not fast stay undefined.
struct KeysAndValues {
  Tensor key1_btd, value1_btf;
  Tensor key2_btf, value2_btd;
  Tensor norm_value_bt2d;  // gradients of scale and bias of the output norm, side by side; their keys are 1
};

class FastTensors {
 public:
  // `inbound`: before the first position; with an exchange, before the whole sequence, on its first rank
  // alone. Without `wants_state` outbound() may not be called.
  FastTensors(const FastWeightWeights& weights, const FastWeightOptions& options, const LossTokens& tokens,
              const KeysAndValues& learned, const FastWeightState& inbound, StateExchange* exchange,
              bool wants_state);

  // Collective over the exchange's ranks, if there is one. Starts it and returns.
  void start_exchange();
  // Of the first dense layer, by head: what the shard's own positions give, [b, t, v].
  std::vector<Tensor> first_local(const Tensor& query_btd) const;
  // Collective over the exchange's ranks.
  void finish_exchange();
  // S_t query_t of each dense layer. `local`: first_local() of the same queries.
  Tensor first_sum(std::vector<Tensor> local, const Tensor& query_btd) const;
  Tensor second_sum(const Tensor& query_btf) const;
  // The decayed sums of the output norm's gradients, [b, t, 2 d].
  Tensor norm_sum() const;
  // After the last position.
  FastWeightState outbound() const;

 private:
  // One head of a fast weight matrix.
  struct Head {
    Tensor key_btk, value_btv, log_decay;
    int64_t chunk;
    std::optional<ShardDecay> decay;  // only where states come in or go out
    LocalStates local;
    Tensor given_bvk;    // inbound state that the caller gave; may be undefined
    Tensor inbound_bvk;  // state before the first position; may be undefined: zero
  };
  Head make_head(const Tensor& key, const Tensor& value, const Tensor& log_decay, const Tensor& given) const;
  // First dense layer: heads are rows, which share queries and keys. Second: heads are columns, which share
  // the values; their sums add up.
  void add_first(const Tensor& key_btd, const Tensor& value_btf, const Tensor& log_decay,
                 const Tensor& given_bfd);
  void add_second(const Tensor& key_btf, const Tensor& value_btd, const Tensor& log_decay,
                  const Tensor& given_bdf);
  std::vector<Head*> all();
  Tensor local_part(const Tensor& query_btk, const Head& head) const;
  Tensor sum_of(const Tensor& query_btk, const Head& head) const;
  Tensor with_bias_input(const Tensor& x_btk) const;
  std::vector<Tensor> second_inputs(const Tensor& act_btf) const;

  bool fast_biases_, has_total_;
  int64_t chunk_, heads_;
  LossTokens tokens_;
  StateExchange* exchange_;
  std::vector<Head> first_, second_, norm_;  // the norm's: one, or none
};

}  // namespace fwl
