// A window whose attention stands alone while its fast weights go on from the window before: carried
// evaluation of a body with full attention, whose memory nothing bounds.
#pragma once

#include "core/model/sequence_view.h"

namespace fwl {

class CarriedWindow final : public SequenceView {
 public:
  int64_t first_position() const override { return 0; }
  Tensor attend(int64_t, const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte,
                int64_t window) override {
    return causal_attention(q_bhte, k_bhte, v_bhte, window);
  }
  FastWeightState inbound_state() const override { return fast_; }
  bool carries_state() const override { return true; }
  void advance(int64_t, const FastWeightState& outbound) override { fast_ = outbound; }
  StreamState stream_state() const override { return {0, {}, fast_}; }
  void set_stream_state(const StreamState& state) override { fast_ = state.fast; }

 private:
  FastWeightState fast_;
};

}  // namespace fwl
