// One event file of a run: made when training starts or goes on, appended to at every logged step.
#pragma once

#include <string>

#include "launch/tensorboard/record.h"

namespace fwl {

class EventFile {
 public:
  // A new file RUN/events.out.tfevents.SECONDS.HOST.PROCESS; SECONDS is the time, or one more than the newest
  // file's, since readers go by names and a clock may go back. It begins with a restart after `resumed_step`:
  // steps that an earlier process logged beyond it are not shown twice. Throws DataError when it cannot be
  // written.
  EventFile(const std::string& run_dir, int64_t resumed_step);

  // Values that are not finite are left out. What cannot be written (disk full) is kept and tried again with
  // the next; the file then ends at the last whole record. Returns whether all is written.
  bool write(int64_t step, const Scalars& scalars, const Histograms& histograms);
  const std::string& path() const { return path_; }

 private:
  bool flush();
  double next_time_s();  // never set back
  std::string path_;
  double last_time_s_ = 0;
  std::string pending_;
};

}  // namespace fwl
