"""Removal of the rules that kube-proxy, the kubelet and the CNI plugins leave behind.

Input and output are the formats of iptables-save and iptables-restore --noflush.
"""

import shutil
import subprocess
from collections.abc import Iterable

from hack.cluster.errors import ClusterError

KUBERNETES_PREFIX = "KUBE-"
CNI_PREFIX = "CNI-"


def removal(saved: str, network: str) -> str:
    """Return the input for `iptables-restore --noflush` that removes our chains and rules.

    Ours are the chains KUBE-*, and those chains CNI-* to which a rule leads whose comment names
    our CNI network (the bridge plugin writes `name: "<network>" id: "<container>"`).

    Args:
        saved: output of iptables-save.
        network: name of the CNI network.

    Returns:
        The text; empty when nothing is ours.
    """
    result: list[str] = []
    for table, chains, rules in _tables(saved):
        ours = {chain for chain in chains if chain.startswith(KUBERNETES_PREFIX)}
        ours |= {
            _target(rule)
            for rule in rules
            if f'name: \\"{network}\\"' in rule and _target(rule).startswith(CNI_PREFIX)
        }
        leading = [r for r in rules if _chain(r) not in ours and _target(r) in ours]
        if not ours and not leading:
            continue
        result.append(f"*{table}")
        result += [f":{chain} - [0:0]" for chain in sorted(ours)]  # empties the chain
        result += [rule.replace("-A ", "-D ", 1) for rule in leading]
        result += [f"-X {chain}" for chain in sorted(ours)]
        result.append("COMMIT")
    return "\n".join(result) + "\n" if result else ""


def remove(network: str) -> None:
    """Remove our rules for IPv4 and IPv6.

    Raises:
        ClusterError: iptables-restore refused.
    """
    for family in ("iptables", "ip6tables"):
        if shutil.which(f"{family}-save") is None:
            continue
        saved = subprocess.run([f"{family}-save"], capture_output=True, text=True, check=False)
        text = removal(saved.stdout, network)
        if not text:
            continue
        done = subprocess.run(
            [f"{family}-restore", "--noflush", "-w", "10"],
            input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ClusterError(f"{family}-restore: {done.stderr.strip()[-400:]}")


def _tables(saved: str) -> Iterable[tuple[str, list[str], list[str]]]:
    table = ""
    chains: list[str] = []
    rules: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            table, chains, rules = line[1:].strip(), [], []
        elif line.startswith(":"):
            chains.append(line[1:].split()[0])
        elif line.startswith("-A "):
            rules.append(line)
        elif line == "COMMIT":
            yield table, chains, rules


def _chain(rule: str) -> str:
    return rule.split()[1]


def _target(rule: str) -> str:
    words = rule.split()
    return words[words.index("-j") + 1] if "-j" in words else ""
