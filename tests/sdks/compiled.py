"""The SDKs of Go, Java and Rust: compiles and runs the programs of docs/sdks.md in a folder of their own."""

import os
import subprocess
from pathlib import Path
from typing import Final

from tests.clients import blocks
from tests.sdks.snippets import INSTALLATIONS, program

GO_PACKAGES: Final = ("github.com/segmentio/analytics-go/v3", "github.com/rudderlabs/analytics-go/v4")
JAVA_PACKAGES: Final = ("com.segment.analytics.java:analytics", "com.rudderstack.sdk.java.analytics:analytics")
RUST_PACKAGES: Final = ("segment", "rudderanalytics")
TOOLCHAINS: Final = {
    **dict.fromkeys(GO_PACKAGES, blocks.GO),
    **dict.fromkeys(JAVA_PACKAGES, blocks.JAVA),
    **dict.fromkeys(RUST_PACKAGES, blocks.RUST),
}
COMPILE_TIMEOUT_SECONDS: Final = 900
_SOURCES: Final = {
    **dict.fromkeys(GO_PACKAGES, "main.go"),
    **dict.fromkeys(JAVA_PACKAGES, "src/main/java/shop/Example.java"),
    **dict.fromkeys(RUST_PACKAGES, "src/main.rs"),
}
_RUN: Final = {
    **dict.fromkeys(GO_PACKAGES, "go run ."),
    **dict.fromkeys(
        JAVA_PACKAGES, "mvn -q -B compile org.codehaus.mojo:exec-maven-plugin:3.5.0:java -Dexec.mainClass=shop.Example"
    ),
    **dict.fromkeys(RUST_PACKAGES, "cargo run --quiet"),
}
_PROJECT: Final = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>shop</groupId><artifactId>shop</artifactId><version>1</version>
<properties>
<maven.compiler.source>17</maven.compiler.source><maven.compiler.target>17</maven.compiler.target>
<project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
</properties>
<dependencies>%s</dependencies>
</project>
"""


def run_example(package: str, key: str, address: str, folder: Path) -> None:
    """Install the SDK in an empty folder, and run its program.

    Raises RegistryUnreachable if the SDK cannot be installed.
    """
    if package in JAVA_PACKAGES:
        (folder / "pom.xml").write_text(_PROJECT % INSTALLATIONS[package])
    else:
        _run(INSTALLATIONS[package], folder)
    source = folder / _SOURCES[package]
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(program(package, key, address))
    _run(_RUN[package], folder)


def _run(commands: str, folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=folder,
        env={**os.environ, "no_proxy": "127.0.0.1", "CARGO_TARGET_DIR": str(folder.parent / "target")},
        capture_output=True,
        text=True,
        timeout=COMPILE_TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        blocks.raise_if_unreachable(folder.name, done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
