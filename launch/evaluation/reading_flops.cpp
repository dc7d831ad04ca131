#include "launch/evaluation/reading_flops.h"

#include <algorithm>

namespace fwl {
namespace {

// `position`: inputs that the mode has read of the sequence before this window.
Flops static_window(const ModelConfig& config, const Window& window, const ModeTraits& mode,
                    int64_t position) {
  SequenceRead read;
  read.positions = window.inputs();
  read.remembered = config.window > 0 ? position : 0;
  read.labelled = learns_from_overlap(mode) ? window.inputs() : window.count;
  read.has_inbound = position > 0;
  return forward_flops(config, mode.pass, read);
}

Flops adapting_window(const ModelConfig& config, const Window& window, const ModeTraits& mode,
                      int64_t position, int64_t segment) {
  const int64_t remembered = config.window > 0 ? position : 0;
  Flops sum;
  if (window.overlap > 0) {
    const bool learns = learns_from_overlap(mode);
    SequenceRead overlap{window.overlap, remembered, learns ? window.overlap : 1, position > 0};
    sum += forward_flops(config, learns ? Pass::kFast : Pass::kSlow, overlap);
  }
  for (int64_t done = 0; done < window.count; done += segment) {
    const int64_t before = window.overlap + done;
    const SequenceRead read{std::min(segment, window.count - done), remembered + before, -1,
                            position + before > 0};
    sum += forward_flops(config, mode.pass, read);
    sum += backward_flops(config, mode.pass, read);
  }
  return sum;
}

}  // namespace

double reading_flops(const ModelConfig& config, const std::vector<ReadingUnit>& units, const ModeTraits& mode,
                     Carry carry, int64_t segment) {
  Flops sum;
  for (const ReadingUnit& unit : units) {
    for (const auto& row : unit) {
      int64_t position = 0, document = row.front().document;
      for (const Window& window : row) {
        const bool goes_on = mode.carries && (window.document == document || carry == Carry::kStream);
        document = window.document;
        if (!goes_on) position = 0;
        sum += mode.adapts ? adapting_window(config, window, mode, position, segment)
                           : static_window(config, window, mode, position);
        position += window.inputs();
      }
    }
  }
  return sum.total();
}

}  // namespace fwl
