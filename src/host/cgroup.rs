//! The CPU quota of the control groups that this process is in: how many cores' worth of CPU time it may use. A
//! container with `--cpus 2` sees all cores of the machine, but is stopped when it has used its quota.

use std::fs;
use std::path::{Path, PathBuf};

/// The quota in cores, the smallest of all groups from that of this process to the root; `None` if there is none.
pub(crate) fn cpu_quota() -> Option<f64> {
    quota_from(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"))
}

/// Reads the groups in `groups` (`/proc/self/cgroup`), whose files are below `mount`. Versions 1 and 2, also mixed.
fn quota_from(groups: &Path, mount: &Path) -> Option<f64> {
    let text = fs::read_to_string(groups).unwrap_or_default();
    let quotas = text.lines().filter_map(|line| {
        // Number of the hierarchy, its controllers, path of the group.
        let mut fields = line.splitn(3, ':');
        let (_, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
        if controllers.is_empty() {
            return smallest(&mount_of(mount, &["", "unified"]), group, quota_v2);
        }
        let has_cpu = controllers.split(',').any(|controller| controller == "cpu");
        let places = [controllers, "cpu", "cpu,cpuacct"];
        has_cpu.then(|| smallest(&mount_of(mount, &places), group, quota_v1)).flatten()
    });
    quotas.reduce(f64::min)
}

fn mount_of(mount: &Path, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| mount.join(name)).collect()
}

/// The smallest quota of `group` and its parents below any of `mounts`. In a container, the path of the group may be
/// that on the host while the container's own group is mounted at the root; folders that do not exist have no quota.
fn smallest(mounts: &[PathBuf], group: &str, quota: fn(&Path) -> Option<f64>) -> Option<f64> {
    let group = Path::new(group.trim_start_matches('/'));
    let folders = mounts.iter().flat_map(|mount| group.ancestors().map(move |part| mount.join(part)));
    folders.filter_map(|folder| quota(&folder)).reduce(f64::min)
}

/// `cpu.max`: quota and period in µs, or `max` without a quota.
fn quota_v2(folder: &Path) -> Option<f64> {
    let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    cores(quota, period)
}

/// `cpu.cfs_quota_us`, −1 without a quota, and `cpu.cfs_period_us`.
fn quota_v1(folder: &Path) -> Option<f64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    cores(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?)
}

fn cores(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.trim().parse::<f64>().ok()?, period.trim().parse::<f64>().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_smallest_quota_on_the_way_to_the_root_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (groups, mount) = (folder.path().join("cgroup"), folder.path().join("fs"));
        write(&groups, "0::/pod/container\n");
        assert_eq!(quota_from(&groups, &mount), None);
        write(&mount.join("pod/container/cpu.max"), "max 100000\n");
        assert_eq!(quota_from(&groups, &mount), None);
        write(&mount.join("pod/cpu.max"), "250000 100000\n");
        assert_eq!(quota_from(&groups, &mount), Some(2.5));
        write(&mount.join("pod/container/cpu.max"), "50000 100000\n");
        assert_eq!(quota_from(&groups, &mount), Some(0.5));
        write(&mount.join("pod/container/cpu.max"), "nonsense");
        assert_eq!(quota_from(&groups, &mount), Some(2.5));
        assert_eq!(quota_from(&folder.path().join("none"), &mount), None);
    }

    #[test]
    fn version_1_and_mixed_hierarchies_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (groups, mount) = (folder.path().join("cgroup"), folder.path().join("fs"));
        write(&groups, "5:cpu,cpuacct:/docker/0123\n3:cpuset:/docker/0123\n0::/\n");
        // The path is that on the host; in the container, the group is the root of the mount.
        write(&mount.join("cpu,cpuacct/cpu.cfs_quota_us"), "300000\n");
        write(&mount.join("cpu,cpuacct/cpu.cfs_period_us"), "100000\n");
        assert_eq!(quota_from(&groups, &mount), Some(3.0));
        write(&mount.join("cpu,cpuacct/cpu.cfs_quota_us"), "-1\n");
        assert_eq!(quota_from(&groups, &mount), None);
        write(&mount.join("unified/cpu.max"), "150000 100000\n");
        assert_eq!(quota_from(&groups, &mount), Some(1.5));
    }
}
