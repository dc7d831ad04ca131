#include "parallel/launcher.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <sstream>

#include "core/base/error.h"

namespace fwl {
namespace {

// Set by a launcher in the processes that it starts as ranks.
constexpr std::array kRankVariables = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK",   "PMI_RANK",
                                       "MV2_COMM_WORLD_RANK",  "PALS_RANKID", "FLUX_TASK_RANK"};

struct Count {
  std::string variable;
  long processes = 0;
};

long number_of(const Environment& environment, const std::string& variable) {
  const auto found = environment.find(variable);
  return found == environment.end() ? 0 : std::strtol(found->second.c_str(), nullptr, 10);
}

// A step that srun started. A batch script has SLURM_PROCID too, but no step of its own.
bool inside_slurm_step(const Environment& environment) {
  return environment.count("SLURM_PROCID") > 0 && environment.count("SLURM_STEP_ID") > 0;
}

// How many ranks the nearest launcher started. Under mpirun only Open MPI's own variable counts: mpirun
// starts its daemons with srun, so the Slurm variables that its ranks inherit describe the daemons.
Count launched_processes(const Environment& environment) {
  if (environment.count("OMPI_COMM_WORLD_SIZE") > 0) {
    return {"OMPI_COMM_WORLD_SIZE", number_of(environment, "OMPI_COMM_WORLD_SIZE")};
  }
  for (const char* variable : {"PMI_SIZE", "MV2_COMM_WORLD_SIZE"}) {
    if (environment.count(variable) > 0) return {variable, number_of(environment, variable)};
  }
  if (inside_slurm_step(environment)) {
    const char* variable =
        environment.count("SLURM_STEP_NUM_TASKS") > 0 ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
    return {variable, number_of(environment, variable)};
  }
  return {};
}

// SLURM_STEP_TASKS_PER_NODE is written like "4(x2),3": 4 tasks on each of two nodes, then 3.
long tasks_of_node(const std::string& list, long node) {
  std::istringstream parts(list);
  for (std::string part; std::getline(parts, part, ',');) {
    const size_t repeat = part.find("(x");
    const long nodes = repeat == std::string::npos ? 1 : std::strtol(part.c_str() + repeat + 2, nullptr, 10);
    if (node < nodes) return std::strtol(part.c_str(), nullptr, 10);
    node -= nodes;
  }
  return 1;
}

}  // namespace

Environment process_environment() {
  Environment environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string::npos) environment[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return environment;
}

bool started_by_launcher(const Environment& environment) {
  for (const char* variable : kRankVariables) {
    if (environment.count(variable) > 0) return true;
  }
  return inside_slurm_step(environment);
}

int rank_of_launcher(const Environment& environment) {
  for (const char* variable : kRankVariables)
    if (environment.count(variable) > 0) return static_cast<int>(number_of(environment, variable));
  return inside_slurm_step(environment) ? static_cast<int>(number_of(environment, "SLURM_PROCID")) : 0;
}

int ranks_of_host(const Environment& environment) {
  if (!started_by_launcher(environment)) return 1;
  // As under mpirun above: the nearest launcher's variable comes first.
  for (const char* variable : {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_LOCAL_SIZE",
                               "PALS_LOCAL_SIZE", "PMI_LOCAL_SIZE"}) {
    const long ranks = number_of(environment, variable);
    if (ranks > 0) return static_cast<int>(ranks);
  }
  if (inside_slurm_step(environment) && environment.count("SLURM_STEP_TASKS_PER_NODE") > 0) {
    const std::string& list = environment.at("SLURM_STEP_TASKS_PER_NODE");
    return static_cast<int>(std::max(1L, tasks_of_node(list, number_of(environment, "SLURM_NODEID"))));
  }
  const long flux_nodes = number_of(environment, "FLUX_JOB_NNODES");
  if (flux_nodes > 0) {
    const long tasks = number_of(environment, "FLUX_JOB_SIZE");
    return static_cast<int>(std::max(1L, (tasks + flux_nodes - 1) / flux_nodes));
  }
  return 1;
}

std::string copies_of_rank_zero(const Environment& environment, int world_size) {
  const Count launched = launched_processes(environment);
  if (world_size != 1 || launched.processes <= 1) return {};
  return cat("the launcher started ", launched.processes, " processes (", launched.variable, "=",
             launched.processes, "), but MPI sees a world of one in each (they would be ", launched.processes,
             " copies of rank 0 that train alone and overwrite each other's files). Start fwl with "
             "`srun --mpi=pmix` or with the mpirun of the MPI that fwl was built with.");
}

std::string kills_too_soon(const Environment& environment) {
  constexpr long kEnough_s = 30;
  if (environment.count("OMPI_COMM_WORLD_SIZE") == 0 || environment.count("FWL_LAUNCHER") > 0) return {};
  if (number_of(environment, "OMPI_MCA_odls_base_sigkill_timeout") >= kEnough_s) return {};
  return "started by mpirun itself, which kills the ranks one second after Ctrl-C or SIGTERM (a longer step, "
         "or its "
         "checkpoint, would be lost). Start with launch/mpirun.sh, which lets the run save and end with 75, "
         "or with "
         "mpirun --mca odls_base_sigkill_timeout 600.";
}

}  // namespace fwl
