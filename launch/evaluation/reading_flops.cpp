#include "launch/evaluation/reading_flops.h"

#include <algorithm>

namespace fwl {
namespace {

struct Reader {
  const ModelConfig& config;
  const ModeTraits& mode;
  int64_t segment;
  at::Device device;

  // `position`: inputs that the mode has read of the sequence before.
  SequenceRead read_at(int64_t position, int64_t remembered, int64_t positions, int64_t labelled) const {
    SequenceRead read;
    read.positions = positions;
    read.remembered = remembered;
    read.labelled = labelled;
    read.has_inbound = position > 0;
    read.carries_state = mode.carries || mode.adapts;
    read.device = device;
    return read;
  }

  Flops static_window(const Window& window, int64_t position) const {
    const int64_t remembered = config.window > 0 ? position : 0;
    const int64_t labelled = learns_from_overlap(mode) ? window.inputs() : window.count;
    return forward_flops(config, mode.pass, read_at(position, remembered, window.inputs(), labelled));
  }

  Flops adapting_window(const Window& window, int64_t position) const {
    const int64_t remembered = config.window > 0 ? position : 0;
    Flops sum;
    if (window.overlap > 0) {
      const bool learns = learns_from_overlap(mode);
      sum += forward_flops(config, learns ? Pass::kFast : Pass::kSlow,
                           read_at(position, remembered, window.overlap, learns ? window.overlap : 1));
    }
    for (int64_t done = 0; done < window.count; done += segment) {
      const int64_t before = window.overlap + done;
      const SequenceRead read =
          read_at(position + before, remembered + before, std::min(segment, window.count - done), -1);
      sum += forward_flops(config, mode.pass, read);
      sum += backward_flops(config, mode.pass, read);
    }
    return sum;
  }
};

}  // namespace

double reading_flops(const ModelConfig& config, const std::vector<ReadingUnit>& units, const ModeTraits& mode,
                     Carry carry, int64_t segment, at::Device device) {
  const Reader reader{config, mode, segment, device};
  Flops sum;
  for (const ReadingUnit& unit : units) {
    for (const auto& row : unit) {
      int64_t position = 0, document = row.front().document;
      for (const Window& window : row) {
        const bool goes_on = mode.carries && (window.document == document || carry == Carry::kStream);
        document = window.document;
        if (!goes_on) position = 0;
        sum +=
            mode.adapts ? reader.adapting_window(window, position) : reader.static_window(window, position);
        position += window.inputs();
      }
    }
  }
  return sum.total();
}

}  // namespace fwl
