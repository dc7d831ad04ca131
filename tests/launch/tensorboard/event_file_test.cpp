#include "launch/tensorboard/event_file.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "core/base/error.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

std::string name_of(const EventFile& file) {
  return std::filesystem::path(file.path()).filename().string();
}

// Readers sort by name: what was written later must come later, whatever the clock says.
TEST(EventFile, ComesAfterAllThatAreThere) {
  const auto now =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  for (const std::string& earlier :
       {cat("events.out.tfevents.", now, ".host.1"), cat("events.out.tfevents.", now + 3600, ".zzz.1"),
        cat("events.out.tfevents.", now + 100000000, ".host.99999"),
        std::string("events.out.tfevents.12345.host.1"), std::string("events.out.tfevents.9.host.1"),
        std::string("events.out.tfevents.x.host"), std::string("events.out.tfevents.")}) {
    const TemporaryFolder run;
    write_text(run / earlier, "");
    const EventFile first(run.path(), 0), second(run.path(), 4);
    // Names of other lengths sort otherwise; nobody has such a clock twice.
    const bool is_a_time = earlier.size() > std::string("events.out.tfevents.1234567890").size();
    EXPECT_TRUE(!is_a_time || name_of(first) > earlier) << earlier;
    EXPECT_GT(name_of(second), name_of(first)) << earlier;
    EXPECT_EQ(name_of(first).find("events.out.tfevents."), 0U);
  }
}

}  // namespace
}  // namespace fwl
