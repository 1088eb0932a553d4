//! The results folders of a call: checked before anything is written, and created for this call alone.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::files::is_link;
use crate::plan::Plan;
use crate::record::share::Share;
use crate::run::DATABASE;
use crate::spec::output::results_folder;
use crate::spec::{OutputSpec, RigFacts};
use crate::store::StoreError;

/// Files in the folder of a call, which later calls without a time in their path append to or replace.
const CALL_FILES: [&str; 6] = [
    "benchmark.log",
    "performance_summary.txt",
    "perf_report.html",
    "repeats_summary.json",
    "sla_summary.json",
    "server.log",
];
/// Files in the folder of a run.
const RUN_FILES: [&str; 4] =
    ["benchmark_args.json", "benchmark_summary.json", "benchmark_percentile.json", "speed_benchmark.json"];

/// Checks that no run of `plans` overwrites the results of an earlier one, and that nothing below the folder of all
/// results that the call writes to is a symbolic link. A folder with the start time in its name will be a new one.
pub(crate) fn check(plans: &[Plan], output: &OutputSpec) -> Result<(), String> {
    let Some(first) = plans.first().filter(|_| output.no_timestamp) else { return Ok(()) };
    let outputs = &output.outputs_dir;
    let root = &first.report.root;
    let below = root.ancestors().take_while(|folder| *folder != outputs);
    let mut written: Vec<PathBuf> = below.map(Path::to_path_buf).collect();
    written.extend(CALL_FILES.iter().map(|name| root.join(name)));
    for plan in plans {
        let folder = &plan.report.folder;
        written.push(folder.clone());
        written.extend(RUN_FILES.iter().map(|name| folder.join(name)));
        let database = folder.join(DATABASE);
        if fs::symlink_metadata(&database).is_ok() {
            return Err(StoreError::Exists(database).to_string());
        }
    }
    match written.iter().find(|path| is_link(path)) {
        Some(link) => Err(format!(
            "{} is a symbolic link, which results are not written through: remove it, or choose another --outputs-dir",
            link.display()
        )),
        None => Ok(()),
    }
}

/// The folders that a call has created for its results.
#[derive(Debug)]
pub(crate) struct CreatedDirs {
    /// Innermost first.
    folders: Vec<PathBuf>,
}

impl CreatedDirs {
    /// Removes the created folders if they are empty: the call has measured nothing.
    pub(crate) fn remove_if_unused(&self) {
        if let Some(root) = self.folders.first() {
            // Folders of runs. Only empty folders can be removed; errors are ignored.
            for entry in fs::read_dir(root).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(entry.path());
            }
        }
        self.folders.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

/// Claims the folder of the call. A folder with the start time in its name is created here, by this call and no other:
/// further calls that start in the same second get the suffix `_2`, `_3`, and so on, in `facts` and in the paths of
/// `plans`. Other folders are created with the files of the first run.
pub(crate) fn claim(output: &OutputSpec, facts: &mut RigFacts, plans: &mut [Plan]) -> Result<CreatedDirs, String> {
    let Some(first) = plans.first() else { return Ok(CreatedDirs { folders: Vec::new() }) };
    if output.no_timestamp {
        return Ok(CreatedDirs { folders: missing_folders(&first.report.root) });
    }
    let outputs = &output.outputs_dir;
    if first.shard.is_some() {
        return claim_for_shard(outputs, &facts.started, &first.report.root);
    }
    let missing = missing_folders(outputs);
    fs::create_dir_all(outputs).map_err(|error| format!("cannot create {}: {error}", outputs.display()))?;
    let started = create_free(outputs, &facts.started)?;
    let folders = [results_folder(outputs, Some(&started), &first.report.name), outputs.join(&started)];
    if started != facts.started {
        plans.iter_mut().for_each(|plan| rename(plan, outputs, &facts.started, &started));
        facts.started = started;
    }
    Ok(CreatedDirs { folders: folders.into_iter().chain(missing).collect() })
}

/// Claims the folder of a shard. That of the call has a name that no other call has, and all shards share it.
fn claim_for_shard(outputs: &Path, started: &str, root: &Path) -> Result<CreatedDirs, String> {
    let missing = missing_folders(outputs);
    let call = outputs.join(started);
    let failed = |folder: &Path, error: std::io::Error| format!("cannot create {}: {error}", folder.display());
    fs::create_dir_all(&call).map_err(|error| failed(&call, error))?;
    fs::create_dir(root).map_err(|error| failed(root, error))?;
    Ok(CreatedDirs { folders: [root.to_path_buf(), call].into_iter().chain(missing).collect() })
}

/// Name of the link to the folder of the latest call.
const LATEST: &str = "latest";

/// Makes the link `latest` in the folder of all results point to `root`, the folder of a call; that of a shard to the folder
/// of all shards of its call, if there is one. The link is replaced atomically; anything else of that name, such as the
/// results of a call with that name, stays as it is.
///
/// # Errors
/// One line, if the link cannot be created or replaced.
pub(crate) fn link_latest(output: &OutputSpec, root: &Path, shard: Option<Share>) -> Result<(), String> {
    let root = match shard {
        Some(_) if output.no_timestamp => return Ok(()),
        Some(_) => root.parent().unwrap_or(root),
        None => root,
    };
    let link = output.outputs_dir.join(LATEST);
    if fs::symlink_metadata(&link).is_ok_and(|metadata| !metadata.is_symlink()) {
        return Ok(());
    }
    let target = root.strip_prefix(&output.outputs_dir).unwrap_or(root);
    // Shards on several machines may have one number of their process.
    let number = shard.map_or(0, Share::index);
    let temporary = output.outputs_dir.join(format!(".{LATEST}.{}.{number}.new", std::process::id()));
    // Left by a killed process with the same number.
    let _ = fs::remove_file(&temporary);
    // A folder that appears meanwhile is not replaced: that is an error of the system.
    let linked = symlink(target, &temporary).and_then(|()| fs::rename(&temporary, &link));
    linked.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        format!("cannot link {} to the results: {error}", link.display())
    })
}

/// The folder and its parents, as far as they do not exist.
fn missing_folders(folder: &Path) -> Vec<PathBuf> {
    let missing = folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    missing.map(Path::to_path_buf).collect()
}

/// Creates a folder named `name`, or with the first suffix that is free.
fn create_free(outputs: &Path, name: &str) -> Result<String, String> {
    let mut number = 1;
    loop {
        let tried = if number == 1 { name.to_string() } else { format!("{name}_{number}") };
        match fs::create_dir(outputs.join(&tried)) {
            Ok(()) => return Ok(tried),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(format!("cannot create {}: {error}", outputs.join(&tried).display())),
        }
    }
}

/// Gives a plan another start time in its paths and names.
fn rename(plan: &mut Plan, outputs: &Path, before: &str, now: &str) {
    let report = &mut plan.report;
    report.root = results_folder(outputs, Some(now), &report.name);
    report.folder = report.root.join(report.folder.file_name().unwrap_or_default());
    if let Some(visualizer) = &mut report.visualizer
        && let Some(start) = visualizer.default_name.strip_suffix(before)
    {
        visualizer.default_name = format!("{start}{now}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Spec, resolve};

    fn plans(outputs: &Path, no_timestamp: bool) -> (Spec, RigFacts, Vec<Plan>) {
        let spec = Spec::default().with(|spec| {
            spec.target.url = Some("mock:".to_string());
            spec.load.parallel = vec![1, 2];
            spec.output.outputs_dir = outputs.to_path_buf();
            spec.output.no_timestamp = no_timestamp;
        });
        let facts = RigFacts { started: "20260101_000000".to_string(), ..RigFacts::default() };
        let plans = resolve(&spec, &facts).unwrap();
        (spec, facts, plans)
    }

    #[test]
    fn calls_of_one_second_get_different_folders_and_unused_ones_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = folder.path().join("a").join("b");
        let mut roots = Vec::new();
        let mut created = Vec::new();
        for _ in 0..3 {
            let (spec, mut facts, mut plans) = plans(&outputs, false);
            created.push(claim(&spec.output, &mut facts, &mut plans).unwrap());
            assert!(plans.iter().all(|plan| plan.report.folder.starts_with(&plans[0].report.root)));
            roots.push((facts.started, plans[0].report.root.clone()));
        }
        assert_eq!(roots[0], ("20260101_000000".to_string(), outputs.join("20260101_000000/mock")));
        assert_eq!(roots[2], ("20260101_000000_3".to_string(), outputs.join("20260101_000000_3/mock")));
        fs::create_dir_all(roots[1].1.join("parallel_1")).unwrap();
        fs::create_dir_all(&roots[2].1).unwrap();
        fs::write(roots[2].1.join("offline-run"), "x").unwrap();
        created.iter().for_each(CreatedDirs::remove_if_unused);
        assert!(!outputs.join(&roots[0].0).exists() && !outputs.join(&roots[1].0).exists());
        assert!(roots[2].1.join("offline-run").exists());
    }

    #[test]
    fn the_latest_link_replaces_only_links() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputSpec { outputs_dir: folder.path().to_path_buf(), ..OutputSpec::default() };
        let link = folder.path().join(LATEST);
        for name in ["1/mock", "2/mock"] {
            let root = folder.path().join(name);
            fs::create_dir_all(&root).unwrap();
            link_latest(&output, &root, None).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(name));
        }
        // All shards of a call name the folder of the call.
        for index in [0, 1] {
            link_latest(&output, &folder.path().join("2/mock"), Share::new(index, 2)).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new("2"));
        }
        let plain = OutputSpec { no_timestamp: true, ..output.clone() };
        link_latest(&plain, &folder.path().join("1"), Share::new(0, 2)).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("2"));
        // The target of the old link is untouched, and no temporary link remains.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        link_latest(&output, &folder.path().join("1/mock"), None).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_dir());
        fs::remove_dir(&link).unwrap();
        fs::write(&link, "mine").unwrap();
        link_latest(&output, &folder.path().join("1/mock"), None).unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "mine");
    }

    #[test]
    fn existing_results_and_links_are_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let (spec, _, plans) = plans(folder.path(), true);
        let check = || check(&plans, &spec.output);
        assert_eq!(check(), Ok(()));
        let run = &plans[1].report.folder;
        fs::create_dir_all(run).unwrap();
        assert_eq!(check(), Ok(()), "an empty folder is no obstacle");
        for link in [run.join("benchmark_args.json"), plans[0].report.root.join("benchmark.log")] {
            std::os::unix::fs::symlink("elsewhere", &link).unwrap();
            let error = check().unwrap_err();
            assert!(error.contains(link.to_str().unwrap()) && error.contains("symbolic link"), "{error}");
            fs::remove_file(&link).unwrap();
        }
        fs::write(run.join(DATABASE), "").unwrap();
        assert!(check().unwrap_err().contains("already exists"));
    }
}
