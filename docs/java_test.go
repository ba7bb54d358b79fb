//go:build unix

package docs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// javaFile is a class around the blocks of a page, each a method. What they take for granted are its fields.
const javaFile = `
import java.util.*;
import java.util.concurrent.*;
import org.apache.curator.framework.*;
import org.apache.curator.framework.recipes.atomic.*;
import org.apache.curator.framework.recipes.barriers.*;
import org.apache.curator.framework.recipes.cache.*;
import org.apache.curator.framework.recipes.leader.*;
import org.apache.curator.framework.recipes.locks.*;
import org.apache.curator.framework.recipes.nodes.*;
import org.apache.curator.framework.recipes.shared.*;
import org.apache.curator.framework.state.*;
import org.apache.curator.retry.*;
import org.apache.curator.x.discovery.*;
import org.apache.zookeeper.*;
import org.apache.zookeeper.data.*;

abstract class Page_%s {
	interface Log { void info(String text); }
	Log log;
	CuratorFramework curator;
	InterProcessMutex mutex;
	byte[] after;
	abstract void work() throws Exception;
	abstract void stopWorking();
	abstract void reload(byte[] document);
%s}
`

// The code of the pages that is Curator's is compiled, where Curator is.
func TestJavaOfPages(t *testing.T) {
	t.Parallel()
	jars, _ := filepath.Glob("/usr/share/java/curator-*.jar")
	if len(jars) == 0 || !installed("javac") {
		t.Skip("Curator is not installed: apt-get install libcurator-recipes-java libcurator-discovery-java default-jdk-headless")
	}
	pages, err := filepath.Glob("recipes/*.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	args := []string{"-proc:none", "-nowarn", "-d", dir, "-cp", "/usr/share/java/*"}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var methods strings.Builder
		for i, b := range blocksOf(string(text)) {
			if b.language == "java" {
				fmt.Fprintf(&methods, "	void block%d() throws Exception {\n%s	}\n", i, b.text)
			}
		}
		if methods.Len() == 0 {
			continue
		}
		name := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(page), ".md"), "-", "_")
		file := filepath.Join(dir, "Page_"+name+".java")
		if err := os.WriteFile(file, fmt.Appendf(nil, javaFile, name, methods.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
	}
	if out, err := exec.Command("javac", args...).CombinedOutput(); err != nil {
		t.Errorf("javac: %v\n%s", err, out)
	}
}
