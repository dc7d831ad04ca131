#!/usr/bin/env bash
# What the environment may hold: words for the log, threads and waiting, a CPU quota, hostfiles, variables that ranks on
# other hosts need, launchers. Tables of what users of such systems have reported. Arguments: FWL_BINARY SOURCE_DIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
cd "$work"
start=$source/launch/mpirun.sh
bind=$source/launch/bind_rank.sh
tiny=$source/launch/configs/tiny.yaml
corpus text 8 --bytes 1200
"$fwl" tokenize text --tokenizer byte --out data >/dev/null
train=("$fwl" train "$tiny" --set data.path=data --set train.device=cpu --set train.steps=1 --set model.context=64 --set train.global_batch=2)

echo "== FWL_LOG in any case; empty is unset; no other word"
for word in INFO Debug warning WARN error Off ''; do
  code=0
  FWL_LOG=$word "$fwl" train none.yaml >out 2>&1 || code=$?
  [[ $code == 2 ]] || fail "FWL_LOG='$word': exit code $code"
  case $word in
    Off) ! grep -q 'none.yaml' out || fail "FWL_LOG=Off says something" ;;
    *) grep -q 'none.yaml' out || fail "FWL_LOG='$word' hides the error" ;;
  esac
done
for word in verbose 3 'info '; do ends 2 "log level '$word' does not exist" env FWL_LOG="$word" "$fwl" train none.yaml; done
ends 2 "log level 'loud' does not exist" env FWL_LOG=loud "$fwl" inspect none
ends 0 "Exit codes" env FWL_LOG= "$fwl" --help
echo "ok: words for the log"

echo "== threads and how they wait, in the log's first line"
for text in two 0 -1 2x 4, 1.5 '2 2'; do ends 2 "OMP_NUM_THREADS='$text' is no number of threads" env OMP_NUM_THREADS="$text" "${train[@]}" --set run.dir=bad; done
[[ ! -e bad ]] || fail "a run was begun with a bad OMP_NUM_THREADS"
ends 2 "FWL_WAIT='sleepy' does not exist" env FWL_WAIT=sleepy "${train[@]}" --set run.dir=bad
more=$(($(env -u OMP_NUM_THREADS nproc) + 1))
while IFS='|' read -r settings first; do
  read -ra pairs <<<"$settings"
  env "${pairs[@]}" "${train[@]}" --set run.dir=run >out 2>&1 || fail "$settings: exit code $?"
  # libgomp itself complains of an empty variable, before anybody can help it.
  grep -m 1 '^\[' out | grep -qE -- "$first" || fail "$settings: the log begins with '$(head -n 1 out)', not '$first'"
  rm -rf run
done <<T
OMP_NUM_THREADS=1 FWL_WAIT=passive|1 thread \(OMP_NUM_THREADS; [0-9]+ cores?.*\), waiting passively \(FWL_WAIT\)
OMP_NUM_THREADS=3 FWL_WAIT=Passive|3 threads .*, waiting passively \(FWL_WAIT\)
OMP_NUM_THREADS=2 FWL_WAIT=ACTIVE|2 threads .*, waiting actively \(FWL_WAIT\)
OMP_NUM_THREADS=2 FWL_WAIT= OMP_WAIT_POLICY=PASSIVE|waiting passively \(OMP_WAIT_POLICY\)
OMP_NUM_THREADS=2 OMP_WAIT_POLICY=active|waiting actively \(OMP_WAIT_POLICY\)
OMP_NUM_THREADS=2 GOMP_SPINCOUNT=7 FWL_WAIT=passive|waiting passively \(FWL_WAIT\), OpenMP as GOMP_SPINCOUNT says
OMP_NUM_THREADS=$more FWL_WAIT=auto|$more threads .*, waiting passively \($more threads on [0-9]+ cores?\)
OMP_NUM_THREADS= FWL_WAIT=auto|^.* [0-9]+ threads? \([0-9]+ cores?.*\), waiting
T
taskset -c 0 env -u OMP_NUM_THREADS "${train[@]}" --set run.dir=run >out 2>&1 || fail "bound to one core"
grep -q ' 1 thread (1 core' out || fail "bound to one core: $(head -n 1 out)"
# OpenMP's library reads its variables while it is loaded: it must have been loaded with them.
while IFS='|' read -r settings variable; do
  read -ra pairs <<<"$settings"
  env "${pairs[@]}" "$fwl" score nothing text/0000.txt >out 2>&1 &
  pid=$! seen=
  for ((i = 0; i < 100; i++)); do
    seen=$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -E '^(OMP_WAIT_POLICY|GOMP_SPINCOUNT)=' | sort | paste -sd, - || true)
    [[ -d /proc/$pid && $seen != "$variable" ]] || break
    sleep 0.02
  done
  wait "$pid" || true
  [[ $seen == "$variable" ]] || fail "$settings: started with '$seen', not '$variable'"
done <<'T'
OMP_NUM_THREADS=2 FWL_WAIT=passive|OMP_WAIT_POLICY=passive
OMP_NUM_THREADS=2 FWL_WAIT=active|
OMP_NUM_THREADS=2 FWL_WAIT=passive GOMP_SPINCOUNT=5|GOMP_SPINCOUNT=5
OMP_NUM_THREADS=1 FWL_WAIT=passive|
T
echo "ok: threads and waiting"

echo "== a quota of CPU time"
group='' value=''
for try in /sys/fs/cgroup/cpu/fwl-test-$$ /sys/fs/cgroup/fwl-test-$$; do
  mkdir "$try" 2>/dev/null || continue
  group=$try
  if { echo 100000 >"$try/cpu.cfs_period_us" && echo 50000 >"$try/cpu.cfs_quota_us"; } 2>/dev/null || { echo '50000 100000' >"$try/cpu.max"; } 2>/dev/null; then
    value=1
    break
  fi
  rmdir "$try" && group=
done
if [[ -n $value ]]; then
  trap 'rmdir "$group" 2>/dev/null || true; rm -rf "$work"' EXIT
  mkdir "$group/inner"
  for place in "$group" "$group/inner"; do
    (echo $BASHPID >"$place/cgroup.procs" && exec env -u OMP_NUM_THREADS timeout 60 "${train[@]}" --set run.dir=quota) >out 2>&1 || fail "a run with a quota"
    grep -qE ' 1 thread \([0-9]+ cores?, of which a quota allows 0.5\), waiting passively' out || fail "$place: $(head -n 1 out)"
    [[ $(echo $BASHPID >"$place/cgroup.procs" && . "$source/launch/cores.sh" && cores) == 1 ]] || fail "launch/cores.sh does not see the quota"
    rm -rf quota
  done
  rmdir "$group/inner"
  echo "ok: a quota of half a core is one thread"
else
  echo "SKIPPED: no cgroup can be made here; the quota was tried on a tree of files alone (core_base_threads_test)"
fi

echo "== forms of a hostfile"
cat >program <<'S'
#!/usr/bin/env bash
echo "$OMP_NUM_THREADS ${FWL_WAIT:--} $(taskset -cp $$ | sed 's/.*: *//') $(awk '/^Sig(Blk|Ign):/ { print $2 }' /proc/$$/status | paste -sd' ')"
S
chmod +x program
mkdir folder
while IFS='|' read -r content code text; do
  printf '%b' "$content" >hosts
  ends "$code" "$text" env FWL="$work/program" "$start" --hostfile hosts -n 3 --dry-run doctor
done <<'T'
node1 max_slots=4 slots=2\n|2|-n 3 is more than the 2 slots
node1 slots=2 max-slots=4\n|2|-n 3 is more than the 2 slots
node1 max_slots=2\n|2|-n 3 is more than the 2 slots
node1 slots=2\r\nnode2 slots=2\r\n|0|--hostfile
node1 slots=2\r\n|2|-n 3 is more than the 2 slots
\0357\0273\0277node1 slots=2\n|2|-n 3 is more than the 2 slots
# c\n\n  node1   slots = 2  # x\n|2|-n 3 is more than the 2 slots
node1 slots=9 // nine\n/* node2\nslots=9 */ node3\tcpu=1|0|--hostfile
node1 count=2\nuser@10.0.0.2 slots=1 username=me\n|0|--hostfile
fe80::1 slots=4\n|0|--hostfile
+n0 slots=4\n^node7\n|0|--hostfile
+e:2\n|0|--hostfile
node1\nnode2\n|0|--hostfile
node1:8\nnode2:8\n|2|Write 'node1 slots=8'
10.0.0.1:4\n|2|Write '10.0.0.1 slots=4'
node1 8\n|2|line 1: '8' is no KEY=VALUE
node1 node2\n|2|'node2' is no KEY=VALUE
\nnode1 slots=two\n|2|line 2: slots=two is no number
node1 sloots=2\n|2|knows no 'sloots'
node1 slots=4 max_slots=2\n|2|max_slots=2 is below slots=4
node[1-4] slots=8\n|2|a list of hosts in short form
node1,node2\n|2|names several hosts
{"node1": 8}\n|2|is no name of a host
# nothing\n|2|names no host
|2|names no host
node1 slots=0\n|2|have no slot
T
ends 2 "'folder' is a folder" env FWL="$work/program" "$start" --hostfile folder -n 1 --dry-run doctor
ends 2 "cannot be read" env FWL="$work/program" "$start" --hostfile none --dry-run doctor
printf 'localhost slots=2\r\n' >hosts
ends 0 "$OMP_NUM_THREADS" env FWL="$work/program" "$start" --hostfile hosts -n 2 --no-check doctor
[[ $(wc -l <out) == 2 ]] || fail "not two ranks of a hostfile with carriage returns"
ends 0 "$OMP_NUM_THREADS" env FWL="$work/program" "$start" --hostfile <(printf 'localhost slots=1\n') --no-check doctor
echo "ok: hostfiles"

echo "== what reaches ranks on other hosts"
handed() { # the names after -x, of a dry run with the assignments given
  env "$@" FWL="$work/program" "$start" -n 2 --dry-run doctor | tr ' ' '\n' | grep -A1 -x -- -x | grep -vx -- '-x\|--'
}
for name in HDF5_PLUGIN_PATH HDF5_USE_FILE_LOCKING LD_LIBRARY_PATH OMPI_MCA_btl PMIX_MCA_psec PRTE_MCA_plm NCCL_DEBUG UCX_TLS FWL_WAIT \
  OMP_WAIT_POLICY GOMP_SPINCOUNT KMP_BLOCKTIME; do
  handed "$name=self,vader" | grep -qx "$name" || fail "$name is not passed on"
  [[ $(handed "$name=self,vader" | grep -cx "$name") == 1 ]] || fail "$name is passed on twice"
done
handed A=1 | grep -qx FWL_LAUNCHER || fail "the launcher's mark is not passed on"
for value in $'a\nNCCL_DOC=1' $'() { :\nUCX_DOC=1\n}'; do
  for name in X NCCL_X 'BASH_FUNC_f%%'; do
    ! handed "$name=$value" | grep -E '_DOC' || fail "a line of $name is taken for a variable"
  done
done
! handed HOME2=/x MY_NCCL_=1 | grep -E 'HOME2|MY_NCCL' || fail "too much is passed on"
ends 0 "btl_tcp_if_exclude" env FWL="$work/program" "$start" --hostfile hosts --dry-run doctor
env FWL="$work/program" OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_exclude=eth9 "$start" --hostfile hosts --dry-run doctor >out
! grep -q -- '--mca' out || fail "the user's own interfaces are set again: $(cat out)"
echo "ok: variables"

echo "== a rank's place, by launcher"
while IFS='|' read -r settings rank; do
  read -ra pairs <<<"$settings"
  env -u OMP_NUM_THREADS "${pairs[@]}" "$bind" ./program train >out 2>&1 || fail "$settings"
  read -r threads wait _ blocked ignored <out
  [[ $rank != over || $wait == passive ]] || fail "$settings: ranks that share cores do not wait passively ($(cat out))"
  # Until the program has its handlers, SIGUSR1 and SIGUSR2 wait or are ignored.
  [[ $threads -ge 1 && $(((0x$blocked | 0x$ignored) & 0xa00)) == $((0xa00)) ]] || fail "$settings: $(cat out): SIGUSR1 or SIGUSR2 would end a rank"
done <<'T'
A=1|0
OMPI_COMM_WORLD_LOCAL_RANK=0 OMPI_COMM_WORLD_LOCAL_SIZE=2 SLURM_LOCALID=7|0
OMPI_COMM_WORLD_LOCAL_RANK=999 OMPI_COMM_WORLD_LOCAL_SIZE=1000|over
MPI_LOCALRANKID=999 MPI_LOCALNRANKS=1000|over
PALS_LOCAL_RANKID=999 PMI_LOCAL_SIZE=1000|over
PMI_LOCAL_RANK=999 PMI_LOCAL_SIZE=1000|over
PMIX_LOCAL_RANK=999|over
SLURM_LOCALID=2 SLURM_NODEID=2 SLURM_STEP_TASKS_PER_NODE=4(x2),1000|over
FLUX_TASK_LOCAL_ID=3 FLUX_JOB_SIZE=4000 FLUX_JOB_NNODES=2|over
T
echo "ok: places"

echo "== options of train, before and after the config; a signal before anything runs"
export FWL=$fwl
for arguments in "$tiny --json out.json" "--json out.json $tiny" "--set train.seed=2 $tiny --json=out.json --allow-changes"; do
  read -ra words <<<"$arguments"
  rm -f out.json
  ends 0 'ok: config: hash' "$start" -n 1 train "${words[@]}" --set data.path=data --set train.device=cpu --set train.steps=1 --set run.dir=r45 --set model.context=64 --set train.global_batch=2
  [[ -s out.json ]] || fail "$arguments: no out.json"
done
for signal in TERM HUP USR1 USR2; do
  "$start" -n 1 train "$tiny" --set data.path=data --set run.dir=early >out 2>&1 &
  pid=$!
  sleep 0.3
  kill -"$signal" "$pid"
  code=0
  wait "$pid" || code=$?
  [[ $code == 75 && ! -e early/log.jsonl ]] || fail "SIG$signal while the ranks are checked: exit code $code"
  rm -rf early
done
echo "ok: options and early signals"
echo "all checks passed"
