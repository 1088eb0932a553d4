//! Which cores are hardware threads of one physical core, and which NUMA node they belong to.

use std::fs;
use std::path::Path;

/// What is known of the cores of this machine; empty where the kernel states nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The hardware threads of each physical core that has several.
    pub siblings: Vec<Vec<usize>>,
    /// The cores of each NUMA node.
    pub nodes: Vec<Vec<usize>>,
    /// The NUMA node of the network cards, if all that are up have the same.
    pub network_node: Option<usize>,
}

/// Cores in the order in which they are to be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreOrder {
    /// One hardware thread of each physical core, those of one NUMA node together.
    pub physical: Vec<usize>,
    /// The other hardware threads; those of the first physical core come last.
    pub siblings: Vec<usize>,
}

impl Topology {
    /// Reads the topology of this machine.
    pub fn read() -> Topology {
        Topology::read_from(Path::new("/sys"))
    }

    fn read_from(sys: &Path) -> Topology {
        let lists = |folder: &str, prefix: &str, file: &str| -> Vec<(usize, Vec<usize>)> {
            let entries = fs::read_dir(sys.join(folder)).into_iter().flatten().flatten();
            let numbered = |entry: fs::DirEntry| {
                let number = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
                Some((number, parse_list(&fs::read_to_string(entry.path().join(file)).ok()?)))
            };
            let mut found: Vec<(usize, Vec<usize>)> = entries.filter_map(numbered).collect();
            found.sort_unstable();
            found
        };
        let of_cores = lists("devices/system/cpu", "cpu", "topology/thread_siblings_list");
        let mut siblings: Vec<Vec<usize>> = of_cores.into_iter().map(|(_, list)| list).collect();
        siblings.retain(|list| list.len() > 1);
        siblings.sort_unstable();
        siblings.dedup();
        let nodes = lists("devices/system/node", "node", "cpulist");
        let numbers: Vec<usize> = nodes.iter().map(|(number, _)| *number).collect();
        let network = network_node(&sys.join("class/net"));
        let network_node = network.and_then(|wanted| numbers.iter().position(|number| *number == wanted));
        Topology { siblings, nodes: nodes.into_iter().map(|(_, list)| list).collect(), network_node }
    }

    /// The order in which the cores of `allowed` (ascending) are used: first those of the NUMA node of the network cards, or
    /// else of the node with the most of them.
    pub fn order(&self, allowed: &[usize]) -> CoreOrder {
        let first_of_core = |core: &usize| {
            let threads = self.siblings.iter().find(|threads| threads.contains(core));
            threads.and_then(|threads| threads.iter().find(|thread| allowed.contains(thread))).copied() == Some(*core)
                || threads.is_none()
        };
        let node_of = |core: usize| self.nodes.iter().position(|cores| cores.contains(&core));
        let on_node = |node: usize| allowed.iter().filter(|core| node_of(**core) == Some(node)).count();
        let preferred = self.network_node.filter(|node| on_node(*node) > 0);
        let preferred =
            preferred.or_else(|| (0..self.nodes.len()).max_by_key(|node| (on_node(*node), self.nodes.len() - node)));
        let by_node = |core: &usize| (node_of(*core) != preferred, node_of(*core), *core);
        let (mut physical, mut siblings): (Vec<usize>, Vec<usize>) =
            allowed.iter().partition(|core| first_of_core(core));
        physical.sort_by_key(by_node);
        let reserved = physical.first().and_then(|first| self.siblings.iter().find(|threads| threads.contains(first)));
        siblings.sort_by_key(|core| (reserved.is_some_and(|threads| threads.contains(core)), by_node(core)));
        CoreOrder { physical, siblings }
    }
}

/// The NUMA node of the network cards that are up, if they agree.
fn network_node(folder: &Path) -> Option<usize> {
    let cards = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let is_up =
        |card: &std::path::PathBuf| fs::read_to_string(card.join("operstate")).is_ok_and(|state| state.trim() == "up");
    let node = |card: std::path::PathBuf| fs::read_to_string(card.join("device/numa_node")).ok()?.trim().parse().ok();
    let mut nodes: Vec<usize> = cards.filter(is_up).filter_map(node).collect();
    nodes.dedup();
    (nodes.len() == 1).then(|| nodes[0])
}

/// The numbers of a list such as `0-3,8`; none if it is not one.
fn parse_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    let ranges: Option<Vec<_>> = text.trim().split(',').map(range).collect();
    ranges.into_iter().flatten().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes of four physical cores; thread n + 8 is the sibling of core n.
    fn two_nodes() -> Topology {
        Topology {
            siblings: (0..8).map(|core| vec![core, core + 8]).collect(),
            nodes: vec![vec![0, 1, 2, 3, 8, 9, 10, 11], vec![4, 5, 6, 7, 12, 13, 14, 15]],
            network_node: None,
        }
    }

    #[test]
    fn physical_cores_of_one_node_come_first() {
        let all: Vec<usize> = (0..16).collect();
        let order = two_nodes().order(&all);
        assert_eq!(order.physical, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(order.siblings, [9, 10, 11, 12, 13, 14, 15, 8]);
        let order = Topology { network_node: Some(1), ..two_nodes() }.order(&all);
        assert_eq!(order.physical, [4, 5, 6, 7, 0, 1, 2, 3]);
        assert_eq!(order.siblings[..4], [13, 14, 15, 8]);
    }

    #[test]
    fn only_allowed_cores_count() {
        // The allowed thread of a pair is not a sibling, and the node with more allowed cores is preferred.
        let order = two_nodes().order(&[3, 5, 8, 12, 13]);
        assert_eq!((order.physical, order.siblings), (vec![5, 12, 3, 8], vec![13]));
        let order = Topology::default().order(&[0, 1, 2]);
        assert_eq!((order.physical, order.siblings), (vec![0, 1, 2], Vec::new()));
    }

    #[test]
    fn the_kernels_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for core in 0..4 {
            let list = if core % 2 == 0 { "0,2\n" } else { "1,3\n" };
            write(&format!("devices/system/cpu/cpu{core}/topology/thread_siblings_list"), list);
        }
        write("devices/system/node/node0/cpulist", "0-1\n");
        write("devices/system/node/node1/cpulist", "2-3\n");
        write("class/net/eth0/operstate", "up\n");
        write("class/net/eth0/device/numa_node", "1\n");
        write("class/net/eth1/operstate", "down\n");
        write("class/net/eth1/device/numa_node", "0\n");
        let expected = Topology {
            siblings: vec![vec![0, 2], vec![1, 3]],
            nodes: vec![vec![0, 1], vec![2, 3]],
            network_node: Some(1),
        };
        assert_eq!(Topology::read_from(folder.path()), expected);
        assert_eq!(Topology::read_from(&folder.path().join("none")), Topology::default());
        assert_eq!((parse_list("0-2,8"), parse_list("?")), (vec![0, 1, 2, 8], Vec::new()));
    }
}
